"""What new bookings are compared with: a difference is drift only when nothing else explains it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from booking_mlops.core.drift.measures import psi
from booking_mlops.core.drift.references import Compared, compare

# Two and a half years of arrivals; prices and lead times follow the season.
FIRST, DAYS, A_DAY = date(2017, 1, 1), 900, 25
TODAY = date(2026, 11, 26)
T, AS_OF = date(2018, 11, 3), date(2018, 12, 1)


def hotel() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    arrival = pd.to_datetime(FIRST) + pd.to_timedelta(np.repeat(np.arange(DAYS), A_DAY), unit="D")
    summer = 1 - np.cos(2 * np.pi * (arrival.dayofyear - 20) / 365)
    lead = (rng.exponential(20 + 30 * summer) // 1).clip(max=350).astype(int)
    frame = pd.DataFrame(
        {
            "booking_id": np.arange(len(arrival)),
            "arrival_date": arrival,
            "booked_on": arrival - pd.to_timedelta(lead, unit="D"),
            "lead_time": lead,
            "average_price": 80 + 20 * summer + rng.normal(0, 10, len(arrival)),
        }
    )
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


HOTEL = hotel()


def seen(rows: pd.DataFrame, day: date, feed: str) -> pd.DataFrame:
    """What a file holds on a day: the open bookings too, those of the next four weeks, or none."""
    until = {"open": 3000, "short": 27, "history": -1}[feed]
    made, near = rows["booked_on"] <= pd.Timestamp(day), rows["arrival_date"] <= pd.Timestamp(day + timedelta(until))
    return rows[made & near]


def compared(known: pd.DataFrame, now: pd.DataFrame, trained_on: date = T, as_of: date = AS_OF) -> Compared | None:
    """Compare as the project does: new is what is not there in the same form."""
    same = ["booking_id", "average_price", "arrival_date"]
    both = now.merge(known[same], how="left", on=same, indicator="side")
    new = both[both["side"] == "left_only"].drop(columns="side")
    rules: dict[str, Any] = {"days": 28, "margin": 14, "min_rows": 300, "max_rows": 20_000}
    return compare(new, known.reset_index(drop=True), trained_on, as_of, **rules)


def drift(found: Compared | None) -> dict[str, float]:
    assert found is not None
    return {
        name: min(psi(one.rows[name], found.current[name]) for one in found.references)
        for name in ("lead_time", "average_price")
    }


def dearer(rows: pd.DataFrame, after: date, times: float = 1.5) -> pd.DataFrame:
    price = rows["average_price"]
    return rows.assign(average_price=price.where(rows["booked_on"] <= pd.Timestamp(after), price * times))


@pytest.mark.parametrize("feed", ["open", "short", "history"])
@pytest.mark.parametrize("month", [1, 4, 7, 10])
def test_the_season_is_no_drift_however_far_ahead_a_file_looks_and_a_rise_of_prices_is(feed: str, month: int) -> None:
    as_of = date(2019, month, 1) if month < 7 else date(2018, month, 1)
    trained_on = as_of - timedelta(28)
    known = seen(HOTEL, trained_on, feed)
    quiet = compared(known, seen(HOTEL, as_of, feed), trained_on, as_of)
    assert quiet is not None
    assert quiet.same_season
    assert max(drift(quiet).values()) < 0.2
    risen = dearer(HOTEL, trained_on - timedelta(200 if feed != "open" else 0))
    assert drift(compared(known, seen(risen, as_of, feed), trained_on, as_of))["average_price"] > 0.3


@pytest.mark.parametrize("trained_on", [T, TODAY])
def test_what_was_known_is_not_new(trained_on: date) -> None:
    known = seen(HOTEL, trained_on, "open")
    assert compared(known, known, trained_on, trained_on) is None
    thirty = known.assign(average_price=known["average_price"].where(known.index >= 30, 999))
    assert compared(known, thirty, trained_on, trained_on) is None


def test_a_file_that_ends_years_ago_is_compared_when_the_next_one_comes() -> None:
    known, more = (seen(HOTEL, day, "history") for day in (T, AS_OF))
    month = compared(known, more, TODAY, TODAY)
    assert max(drift(month).values()) < 0.2
    assert drift(compared(known, dearer(more, date(2018, 1, 1)), TODAY, TODAY))["average_price"] > 0.3
    changed = compared(known, dearer(known, date(2000, 1, 1)), TODAY, TODAY)
    assert changed is not None
    assert "have changed or came late" in changed.which
    assert drift(changed)["average_price"] > 0.3


@pytest.mark.parametrize("feed", ["open", "history"])
def test_an_odd_date_or_sixty_bookings_far_ahead_change_nothing(feed: str) -> None:
    known, now = seen(HOTEL, T, feed), seen(HOTEL, AS_OF, feed)
    far = now.head(60).assign(booking_id=-np.arange(60), arrival_date=pd.Timestamp("2020-11-01"))
    far["booked_on"] = pd.Timestamp(AS_OF - timedelta(3))
    odd = now.head(1).assign(booking_id=-99, arrival_date=pd.Timestamp("2081-12-31"))
    # pandas 2.1 can't put dates of different units below each other.
    strangers = pd.concat([far.astype(now.dtypes), odd.astype(now.dtypes)])
    plain, strange = compared(known, now), compared(known, pd.concat([now, strangers]))
    assert plain is not None
    assert strange is not None
    assert strange.which.partition(" ")[2] == plain.which.partition(" ")[2]
    for ours, theirs in zip(plain.references, strange.references, strict=True):
        assert abs(len(ours.rows) - len(theirs.rows)) < 0.1 * len(ours.rows)
    assert max(drift(strange).values()) < 0.2
    moved = pd.concat([dearer(now, T - timedelta(200)), strangers])
    assert drift(compared(known, moved))["average_price"] > 0.3


def test_what_had_moved_before_the_training_is_no_news_afterwards() -> None:
    risen = dearer(HOTEL, T - timedelta(60))
    after = compared(seen(risen, T, "open"), seen(risen, AS_OF, "open"))
    assert after is not None
    season, last = (psi(one.rows["average_price"], after.current["average_price"]) for one in after.references)
    assert season > 0.3 > last


def test_without_earlier_years_the_season_may_explain_it() -> None:
    young = HOTEL[HOTEL["arrival_date"] >= "2018-06-01"]
    found = compared(seen(young, T, "open"), seen(young, AS_OF, "open"))
    assert found is not None
    assert not found.same_season
