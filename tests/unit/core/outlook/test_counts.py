from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from booking_mlops.core.outlook.counts import central_interval, count_distribution, fitted_correlation

SHARES = st.lists(st.floats(0.0, 1.0), max_size=40)


def by_listing(p: list[float]) -> list[float]:
    """The distribution by its definition: the sum over every combination of outcomes."""
    found = [0.0] * (len(p) + 1)
    for ends in itertools.product((0, 1), repeat=len(p)):
        found[sum(ends)] += float(np.prod([q if end else 1 - q for q, end in zip(p, ends, strict=True)]))
    return found


def test_the_count_of_unequal_bookings_is_exact() -> None:
    p = [0.1, 0.35, 0.5, 0.62, 0.97, 0.004]
    assert count_distribution(np.array(p)) == pytest.approx(by_listing(p), abs=1e-9)
    assert count_distribution(np.array([])) == pytest.approx([1.0])


@pytest.mark.parametrize("bookings", [1, 511, 512, 1500])
def test_equal_bookings_are_binomial_however_many_there_are(bookings: int) -> None:
    expected = binom.pmf(np.arange(bookings + 1), bookings, 0.3)
    assert count_distribution(np.full(bookings, 0.3)) == pytest.approx(expected, abs=1e-12)


@given(SHARES, st.floats(0.0, 0.4))
def test_a_correlation_leaves_the_expected_number_as_it_is(p: list[float], correlation: float) -> None:
    found = count_distribution(np.array(p), correlation)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    assert found @ np.arange(len(p) + 1) == pytest.approx(sum(p), abs=1e-3 * (len(p) + 1))


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=60), st.floats(0.5, 0.95))
def test_an_interval_holds_what_it_promises_and_a_correlation_widens_it(p: list[float], coverage: float) -> None:
    apart, together = count_distribution(np.array(p)), count_distribution(np.array(p), 0.1)
    for distribution in (apart, together):
        low, high = central_interval(distribution, coverage)
        assert 0 <= low <= high <= len(p)
        assert distribution[low : high + 1].sum() >= coverage - 1e-9
    counts = np.arange(len(p) + 1)
    assert together @ counts**2 >= apart @ counts**2 - 1e-6


def test_the_correlation_is_found_in_counts_that_have_one() -> None:
    rng, p = np.random.default_rng(3), np.full(60, 0.4)
    independent = [(p, int(rng.binomial(60, 0.4))) for _ in range(150)]
    # Each date draws its own common cause.
    together = [(p, int(rng.choice(61, p=count_distribution(p, 0.06)))) for _ in range(150)]
    assert fitted_correlation(independent) <= 0.005
    assert 0.03 <= fitted_correlation(together) <= 0.1
    assert fitted_correlation([]) == 0.0
