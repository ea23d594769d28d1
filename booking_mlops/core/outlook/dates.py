"""The open bookings by date of arrival: how many, how many of them to expect cancelled, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from booking_mlops.core.outlook.counts import central_interval, count_distribution


@dataclass(frozen=True)
class ArrivalDate:
    """The open bookings that arrive on a date.

    `lower` and `upper` bound the cancellations to be expected. Nights and value are those of all the bookings; at stake
    is what of it is expected to be cancelled. `uncorrected` is the sum of the model's own probabilities.
    """

    arrival_date: date
    open_bookings: int
    expected: float
    lower: int
    upper: int
    uncorrected: float
    nights: int
    nights_at_stake: float
    value: float
    value_at_stake: float

    def days_after(self, day: date) -> int:
        """Return how many days after `day` the date is."""
        return (self.arrival_date - day).days

    @property
    def range(self) -> str:
        """The interval as text."""
        return f"{self.lower}" if self.lower == self.upper else f"{self.lower}–{self.upper}"


def by_arrival_date(bookings: pd.DataFrame, *, correlation: float, coverage: float) -> list[ArrivalDate]:
    """Return what is to be expected of each date, in order.

    `bookings` has for each open booking: arrival_date, nights, value, probability, and uncorrected (the model's own
    probability). `correlation` is that between the bookings of a date; the interval holds at least `coverage` of the
    possible counts.
    """
    dates = []
    for day, rows in bookings.groupby("arrival_date", sort=True):
        assert isinstance(day, date), "a table's date is Python's"
        probability = rows["probability"].to_numpy(float)
        lower, upper = central_interval(count_distribution(probability, correlation), coverage)
        dates.append(
            ArrivalDate(
                arrival_date=day,
                open_bookings=len(rows),
                expected=float(probability.sum()),
                lower=lower,
                upper=upper,
                uncorrected=float(rows["uncorrected"].sum()),
                nights=int(rows["nights"].sum()),
                nights_at_stake=float(np.dot(probability, rows["nights"])),
                value=float(rows["value"].sum()),
                value_at_stake=float(np.dot(probability, rows["value"])),
            )
        )
    return dates
