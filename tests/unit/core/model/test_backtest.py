"""The replay of days that are past, on made bookings whose truth is known."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from booking_mlops.config.loader import build
from booking_mlops.core.model.backtest import Backtest, BacktestRule, backtest
from booking_mlops.core.model.correction import Correction, fit_correction
from booking_mlops.errors import ConfigError
from booking_mlops.services.backtest import backtest_file


def test_a_correction_expects_as_many_cancellations_as_there_were_and_keeps_the_order() -> None:
    rng = np.random.default_rng(1)
    p = rng.uniform(0.02, 0.98, 20_000)
    labels = (rng.random(20_000) < expit(logit(p) + 0.7)).astype(int)
    correction = fit_correction(p, labels)
    assert correction.shift == pytest.approx(0.7, abs=0.05)
    corrected = correction.apply(p)
    assert corrected.sum() == pytest.approx(labels.sum(), rel=1e-6)
    assert (np.argsort(corrected) == np.argsort(p)).all()
    # Two rows that stand for all of them say the same of two probabilities.
    many = fit_correction([0.3, 0.6], [400, 700], [1000, 1000])
    one_by_one = fit_correction(np.repeat([0.3, 0.6], 1000), np.repeat([1, 0, 1, 0], [400, 600, 700, 300]))
    assert many.shift == pytest.approx(one_by_one.shift)
    assert build(Correction, json.loads(json.dumps(vars(correction))), "file") == correction


@pytest.mark.parametrize(("labels", "shift"), [([1, 1], 5.0), ([0, 0], -5.0), ([], 0.0)])
def test_bookings_that_all_ended_the_same_way_have_a_correction_too(labels: list[int], shift: float) -> None:
    assert fit_correction(np.linspace(0.2, 0.8, len(labels)), np.array(labels)) == Correction(shift)


def past_bookings(rows: int, shift: float) -> pd.DataFrame:
    """Bookings of 300 days; `p` is what a model says of them, and from day 200 on it is too low by `shift`."""
    rng = np.random.default_rng(7)
    arrival, lead = rng.integers(0, 300, rows), rng.integers(0, 90, rows)
    p = rng.uniform(0.05, 0.9, rows)
    cancelled = rng.random(rows) < expit(logit(p) + np.where(arrival >= 200, shift, 0.0))
    start = pd.Timestamp("2018-01-01")
    return pd.DataFrame(
        {
            "booking_id": [f"B{n}" for n in range(rows)],
            "feature_key": np.arange(rows),
            "arrival_date": (start + pd.to_timedelta(arrival, unit="D")).date,
            "booked_on": (start + pd.to_timedelta(arrival - lead, unit="D")).date,
            "said": p,
            "is_canceled": cancelled.astype(int),
        }
    )


RULE = BacktestRule(period_days=100, days=4, min_bookings=50)


def replay(frame: pd.DataFrame, rule: BacktestRule = RULE) -> tuple[Backtest, list[pd.DataFrame]]:
    """The backtest, and what each fit was given."""
    fitted: list[pd.DataFrame] = []

    def fit(rows: pd.DataFrame) -> Any:
        fitted.append(rows)
        return lambda others: others["said"].to_numpy()

    return backtest(frame, rule, fit), fitted


def test_one_fit_to_what_was_certain_is_judged_on_what_was_open_on_several_days() -> None:
    frame = past_bookings(8_000, shift=1.0)
    found, (known,) = replay(frame)
    assert found.trained_until == date(2018, 7, 20)
    assert max(known["arrival_date"]) < found.trained_until
    assert found.training_rows == len(known)
    assert [day.as_of for day in found.days] == [
        date(2018, 7, 20),
        date(2018, 8, 14),
        date(2018, 9, 8),
        date(2018, 10, 3),
    ]
    for day in found.days:
        still_open = frame[(frame["booked_on"] <= day.as_of) & (frame["arrival_date"] >= day.as_of)]
        assert (day.bookings, day.cancelled) == (len(still_open), still_open["is_canceled"].sum())
        assert day.expected == pytest.approx(still_open["said"].sum())


def test_a_count_that_is_too_low_is_corrected_on_days_that_were_not_learned_from() -> None:
    found, _ = replay(past_bookings(20_000, shift=1.0))
    assert found.correction.shift == pytest.approx(1.0, abs=0.1)
    for day in found.judged:
        assert day.expected < 0.8 * day.cancelled
        assert day.corrected == pytest.approx(day.cancelled, rel=0.05)
    assert "one of 33 % becomes 57 %" in found.in_words() or "one of 33 % becomes 58 %" in found.in_words()
    assert found.correlation <= 0.005
    right, _ = replay(past_bookings(20_000, shift=0.0))
    assert sum(day.corrected for day in right.judged) == pytest.approx(
        sum(day.cancelled for day in right.judged), rel=0.05
    )


def test_a_booking_whose_twin_was_trained_on_is_not_ranked_but_counted() -> None:
    frame = past_bookings(8_000, shift=0.0)
    twins = frame["feature_key"] % 2 == 0
    doubled = frame.assign(feature_key=frame["feature_key"].where(~twins, 0))
    found, _ = replay(doubled)
    alone, _ = replay(frame)
    for with_twins, without in zip(found.days, alone.days, strict=True):
        assert with_twins.bookings == without.bookings
        assert with_twins.metrics is not None
        assert without.metrics is not None
        assert 0.4 * without.metrics.rows < with_twins.metrics.rows < 0.6 * without.metrics.rows


def test_without_enough_bookings_there_is_none_and_it_says_so() -> None:
    found, _ = replay(past_bookings(60, shift=0.0))
    assert (found.days, found.correction, found.correlation) == ((), Correction(), 0.0)
    assert np.isnan(found.roc_auc)
    assert "too few past bookings" in found.in_words()
    assert replay(past_bookings(500, 0.0).assign(is_canceled=0))[1] == []


def test_it_is_written_down_and_read_again() -> None:
    found, _ = replay(past_bookings(8_000, shift=1.0))
    assert build(Backtest, json.loads(backtest_file(found)), "file") == found


@pytest.mark.parametrize("wrong", [{"period_days": 0}, {"days": 0}, {"min_bookings": 0}])
def test_a_rule_that_replays_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"backtest.{next(iter(wrong))}"):
        BacktestRule(**wrong)
