"""Measures of drift."""

from __future__ import annotations

import io
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.core.drift.measures import (
    Finding,
    Level,
    Levels,
    auc_standard_error,
    capped,
    domain_auc,
    like_seasons,
    live_finding,
    newest_window,
    psi,
    quality_findings,
    within,
    worst,
)
from booking_mlops.tasks.drift import reference_file

LEVELS = Levels(0.1, 0.25)
RNG = np.random.default_rng(5)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=200),
    st.lists(st.integers(0, 50), min_size=1, max_size=200),
)
def test_psi_is_a_distance(first: list[int], second: list[int]) -> None:
    a, b = pd.Series(first), pd.Series(second)
    assert psi(a, a) == pytest.approx(0.0, abs=1e-12)
    assert psi(a, b) >= 0
    assert psi(a, b) == pytest.approx(psi(a.sample(frac=1, random_state=1), b))


def test_psi_of_known_shares() -> None:
    before = pd.Series(["a"] * 50 + ["b"] * 50)
    now = pd.Series(["a"] * 80 + ["b"] * 20)
    assert psi(before, now) == pytest.approx(0.3 * np.log(0.8 / 0.5) + -0.3 * np.log(0.2 / 0.5))
    assert np.isnan(psi(before, now[:0]))


def test_psi_sees_a_shift_and_not_chance() -> None:
    before = pd.Series(RNG.normal(size=5000))
    assert psi(before, pd.Series(RNG.normal(size=5000))) < 0.02
    assert psi(before, pd.Series(RNG.normal(loc=1, size=5000))) > 0.5
    # Beyond everything the reference has seen.
    assert psi(before, before * 100) > 0.25


def table(rows: int, shift: float) -> pd.DataFrame:
    frame = pd.DataFrame({"x": RNG.normal(shift, size=rows), "t": RNG.choice(["a", "b"], rows)})
    frame["key"] = np.arange(rows) + (10**6 if shift else 0)
    return frame


def test_the_domain_classifier_tells_two_worlds_apart_and_one_world_not() -> None:
    before = table(1500, 0.0)
    assert domain_auc(before, table(1500, 2.0), ["x", "t"], "key", seed=1) > 0.85
    same = before.sample(frac=1, random_state=3).reset_index(drop=True)
    half = domain_auc(same[:750], same[750:], ["x", "t"], "key", seed=1)
    assert 0.4 < half < 0.6
    # Twins on one side only must not be recognised by heart.
    twins = pd.concat([before[:300]] * 4, ignore_index=True)
    assert domain_auc(twins, before[300:1500], ["x", "t"], "key", seed=1) < 0.65
    assert np.isnan(domain_auc(before[:2], before[:2], ["x"], "key", seed=1))


def test_the_season_is_the_same_days_of_each_year() -> None:
    window = newest_window(date(2018, 12, 31), 28)
    assert (window.first, window.last) == (date(2018, 12, 4), date(2018, 12, 31))
    this, last, *_ = like_seasons(window, 14)
    assert (this.first, this.last) == (date(2018, 11, 20), date(2019, 1, 14))
    assert (last.first.weekday(), last.first) == (this.first.weekday(), date(2017, 11, 21))
    assert window.sql("d") == "d BETWEEN DATE'2018-12-04' AND DATE'2018-12-31'"
    days = pd.Series([date(2017, 11, 20), date(2017, 11, 21), date(2018, 6, 1), date(2019, 1, 14), date(2019, 1, 15)])
    assert within([this, last], days).tolist() == [False, True, False, True, False]


def test_what_a_model_was_trained_on_is_kept_in_a_stable_sample() -> None:
    rows = 1000
    trained_on = pd.DataFrame(
        {
            "booking_id": [f"INN{number:05}" for number in range(rows)],
            "lead_time": range(rows),
            "feature_key": range(rows),
            "arrival_date": [date(2018, 1, 1)] * rows,
            "is_canceled": 1,
        }
    )
    file = reference_file(trained_on, ["lead_time"], 300, seed=1)
    kept = pd.read_parquet(io.BytesIO(file))
    assert list(kept.columns) == ["booking_id", "lead_time", "feature_key", "arrival_date"]
    assert kept["booking_id"].nunique() == 300
    # The first of them are a sample too.
    assert 400 < kept["lead_time"].head(100).mean() < 600
    assert reference_file(trained_on, ["lead_time"], 300, seed=1) == file
    everything = pd.read_parquet(io.BytesIO(reference_file(trained_on, ["lead_time"], 5000, seed=1)))
    pd.testing.assert_frame_equal(
        everything.sort_values("booking_id", ignore_index=True), trained_on[list(kept.columns)]
    )


@pytest.mark.parametrize(("value", "level"), [(0.09, "ok"), (0.1, "warn"), (0.25, "alarm"), (float("nan"), "too few")])
def test_levels(value: float, level: Level) -> None:
    assert LEVELS.of(value) == level


def finding(level: Level) -> Finding:
    return Finding("feature drift", "x", "PSI", 0.0, level, LEVELS, 1)


def test_the_worst_counts_and_what_was_not_judged_does_not() -> None:
    assert worst([finding("ok"), finding("warn"), finding("too few")]) == "warn"
    assert worst([finding("too few")]) == worst([]) == "too few"
    low, high = capped([finding("ok"), finding("alarm")], "warn", "one week")
    assert (low.level, high.level, high.detail) == ("ok", "warn", "one week")


def test_the_error_of_an_auc_is_the_one_published() -> None:
    # Hanley & McNeil 1982, table II: 51 abnormal and 58 normal images, area .893, standard error .032.
    assert auc_standard_error(0.893, 51, 58) == pytest.approx(0.032, abs=0.001)


def live(rows: int, quality: float, expected: float = 0.9) -> Any:
    rng = np.random.default_rng(rows)
    labels = rng.integers(0, 2, rows)
    scores = np.clip(0.5 + quality * (labels - 0.5) + rng.normal(0, 0.25, rows), 0, 1)
    return live_finding("week", labels, scores, expected, Levels(0.03, 0.08), min_rows=50)


def test_a_champion_is_judged_by_what_is_sure() -> None:
    assert live(1000, 0.7).level == "ok"
    assert live(1000, 0.0).level == "alarm"
    assert live(49, 0.0).level == "too few"
    # Eight points too low on sixty bookings may be chance.
    assert live(60, 0.5, expected=0.95).level in ("ok", "warn")
    one_class = live_finding("week", np.zeros(100), np.zeros(100), 0.9, LEVELS, min_rows=50)
    assert one_class.level == "too few"


def test_quality_counts_what_is_missing_impossible_or_new() -> None:
    before = pd.DataFrame({"n": [1.0, 2.0, 3.0, 4.0], "t": ["a", "b", "a", "b"]})
    now = pd.DataFrame({"n": [1.0, None, 99.0, 4.0], "t": ["a", "b", "c", "b"]})
    number, text = quality_findings(before, now, ["n", "t"], {"n": (0, 10)}, LEVELS)
    assert (number.value, number.level) == (0.5, "alarm")
    assert (text.value, text.detail) == (0.25, "missing or never seen before")
