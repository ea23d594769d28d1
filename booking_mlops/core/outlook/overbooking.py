"""How many rooms more than there are may be sold for a night, given what is likely to be cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from booking_mlops.core.outlook.counts import count_distribution


@dataclass(frozen=True)
class Overbooking:
    """The rooms there are, what a guest who must be walked to another hotel costs, and what an empty room loses.

    Without a price it is the mean price of the night's bookings. A suggestion needs `capacity` and `walk_cost`.
    """

    capacity: int | None = None
    walk_cost: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class Suggestion:
    """A night: rooms booked, rooms to sell beyond the capacity, and rooms still to be sold up to that limit."""

    night: date
    booked: int
    overbook_by: int
    still_to_sell: int


def suggestions(
    bookings: pd.DataFrame, staying: pd.DataFrame, nights: Sequence[date], rule: Overbooking, correlation: float
) -> list[Suggestion]:
    """Return a suggestion for each of the `nights`; none when the rule is not configured.

    `bookings` has arrival_date, nights, price and probability of each open booking, `staying` arrival_date and nights
    of the guests who have arrived and are taken to stay. The newsvendor's rule (Netessine & Shumsky, "Introduction to
    the theory and practice of yield management", 2002): sell the smallest number beyond the capacity that the
    cancellations reach or stay below with probability price / (price + walk cost).
    """
    if rule.capacity is None or rule.walk_cost is None:
        return []
    found = []
    for night in nights:
        here = bookings[_covers(bookings, night)]
        price = float(here["price"].mean()) if rule.price is None else rule.price
        below = np.cumsum(count_distribution(here["probability"].to_numpy(float), correlation))
        most = int(np.searchsorted(below, price / (price + rule.walk_cost) - 1e-12)) if price > 0 else 0
        extra = min(most, len(here))
        booked = len(here) + int(_covers(staying, night).sum())
        found.append(Suggestion(night, booked, extra, max(rule.capacity + extra - booked, 0)))
    return found


def _covers(stays: pd.DataFrame, night: date) -> pd.Series:
    """Return for each stay whether its guest sleeps there that night; a stay of no night counts as one of one."""
    arrival, first = pd.to_datetime(stays["arrival_date"]), pd.Timestamp(night)
    leaves = arrival + pd.to_timedelta(stays["nights"].clip(lower=1), unit="D")
    covered: pd.Series = (arrival <= first) & (leaves > first)
    return covered
