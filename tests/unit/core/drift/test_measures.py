from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.core.drift.findings import Levels
from booking_mlops.core.drift.measures import auc_standard_error, domain_auc, live_finding, psi, quality_findings

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
