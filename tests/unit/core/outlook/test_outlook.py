from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from booking_mlops.core.outlook.counts import count_distribution
from booking_mlops.core.outlook.dates import by_arrival_date
from booking_mlops.core.outlook.overbooking import Overbooking, suggestions
from booking_mlops.core.outlook.reasons import reasons, typical_values
from booking_mlops.core.outlook.record import judged, record

DAY = date(2018, 10, 1)


def open_bookings() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "arrival_date": [DAY + timedelta(1), DAY, DAY, DAY, DAY],
            "nights": [1, 2, 0, 3, 1],
            "price": [80.0, 100.0, 90.0, 100.0, 110.0],
            "probability": [0.5, 0.2, 0.4, 0.9, 0.1],
        }
    )
    return frame.assign(value=frame["price"] * frame["nights"], uncorrected=frame["probability"] / 2)


def test_each_date_has_its_bookings_what_to_expect_of_them_and_what_is_at_stake() -> None:
    first, second = by_arrival_date(open_bookings(), correlation=0.0, coverage=0.8)
    assert (first.arrival_date, first.open_bookings, second.open_bookings) == (DAY, 4, 1)
    assert (first.expected, first.uncorrected) == pytest.approx((1.6, 0.8))
    assert (first.nights, first.value) == (6, 610)
    assert first.nights_at_stake == pytest.approx(0.2 * 2 + 0.9 * 3 + 0.1)
    assert first.value_at_stake == pytest.approx(0.2 * 200 + 0.9 * 300 + 0.1 * 110)
    assert (first.range, second.range) == ("1–3", "0–1")
    assert second.days_after(DAY) == 1


@pytest.mark.parametrize(("price", "walk_cost"), [(100.0, 300.0), (100.0, 100.0), (200.0, 50.0), (50.0, 2000.0)])
def test_an_overbooking_costs_the_least_on_average(price: float, walk_cost: float) -> None:
    p = np.linspace(0.1, 0.9, 30)
    bookings = pd.DataFrame({"arrival_date": [DAY] * 30, "nights": 1, "price": 1.0, "probability": p})
    nobody = pd.DataFrame({"arrival_date": [], "nights": []})
    (found,) = suggestions(bookings, nobody, [DAY], Overbooking(40, walk_cost, price), 0.02)
    cancelled, chance = np.arange(31), count_distribution(p, 0.02)

    def cost(extra: int) -> float:
        empty, walked = np.maximum(cancelled - extra, 0), np.maximum(extra - cancelled, 0)
        return float(chance @ (price * empty + walk_cost * walked))

    assert found.overbook_by == min(range(31), key=cost)
    assert found.still_to_sell == 10 + found.overbook_by


def test_a_night_counts_whoever_sleeps_there() -> None:
    staying = pd.DataFrame({"arrival_date": [DAY - timedelta(2), DAY - timedelta(1)], "nights": [3, 3]})
    found = suggestions(open_bookings(), staying, [DAY, DAY + timedelta(1)], Overbooking(6, 250.0), 0.0)
    assert [one.booked for one in found] == [6, 4]
    assert [one.overbook_by for one in found] == [1, 1]
    assert found[0].still_to_sell == 1
    assert suggestions(open_bookings(), staying, [DAY], Overbooking(), 0.0) == []


def test_the_reasons_are_what_one_feature_adds_to_the_probability() -> None:
    inputs = pd.DataFrame({"lead": [200.0, 20.0, 20.0], "meal": ["none", "half", "half"], "rooms": [1.0, 1.0, 1.0]})

    def probability(rows: pd.DataFrame) -> np.ndarray:
        return 0.1 + (rows["lead"] / 1000).to_numpy() + 0.3 * (rows["meal"] == "none").to_numpy()

    typical = typical_values(inputs)
    assert typical == {"lead": 20.0, "meal": "half", "rooms": 1.0}
    first, second, _ = reasons(inputs, typical, probability)
    assert [(one.feature, one.value, round(one.effect, 3)) for one in first] == [
        ("meal", "none", 0.3),
        ("lead", 200.0, 0.18),
    ]
    assert second == []
    assert len(reasons(inputs, typical, probability, most=1)[0]) == 1


def test_an_earlier_outlook_is_judged_when_each_of_its_bookings_has_an_outcome() -> None:
    rows = [
        # as_of, arrival, open, expected, lower, upper, outcomes, cancelled
        (DAY, DAY + timedelta(3), 10, 3.5, 2, 5, 10, 2),
        (DAY, DAY + timedelta(20), 10, 4.5, 2, 5, 10, 6),
        (DAY, DAY + timedelta(21), 10, 4.0, 2, 5, 9, 3),
    ]
    names = ["as_of", "arrival_date", "open_bookings", "expected_cancellations", "lower_cancellations",
             "upper_cancellations", "outcomes", "cancelled"]  # fmt: skip
    known = judged(pd.DataFrame(rows, columns=names))
    assert known["days_before"].tolist() == [3, 20]
    lines = {line.name: line for line in record(known)}
    assert [(line.dates, line.expected, line.cancelled, line.share_inside) for line in lines.values()] == [
        (1, 3.5, 2, 1.0),
        (1, 4.5, 6, 0.0),
        (2, 8.0, 8, 0.5),
    ]
    assert record(judged(pd.DataFrame(columns=names))) == []
