from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.core.model.split import holdout_mask, one_row_per_key

KEYS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50).map(lambda keys: np.array(keys, np.int64))
FROZEN_MEMBERS = [3, 10, 18, 21, 33]


@given(KEYS, st.floats(0.01, 0.98), st.floats(0.001, 0.01))
def test_a_smaller_holdout_lies_within_a_larger_one(keys: np.ndarray, fraction: float, more: float) -> None:
    small, large = holdout_mask(keys, fraction), holdout_mask(keys, fraction + more)
    assert not (small & ~large).any()


@given(KEYS)
def test_membership_depends_on_the_key_alone(keys: np.ndarray) -> None:
    together = holdout_mask(keys, 0.3)
    alone = [bool(holdout_mask(keys[i : i + 1], 0.3)[0]) for i in range(len(keys))]
    assert together.tolist() == alone


def test_the_share_is_met_even_for_keys_in_a_row() -> None:
    assert holdout_mask(np.arange(100_000), 0.2).mean() == pytest.approx(0.2, abs=0.005)


def test_another_salt_is_another_holdout() -> None:
    keys = np.arange(100_000)
    both = holdout_mask(keys, 0.2, salt=1) & holdout_mask(keys, 0.2, salt=2)
    assert both.mean() == pytest.approx(0.04, abs=0.005)


def test_membership_never_changes() -> None:
    # Written down once: a change here would let every later model see rows its champion was judged on.
    assert np.flatnonzero(holdout_mask(np.arange(40), 0.2, salt=1)).tolist() == FROZEN_MEMBERS


def test_a_fraction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        holdout_mask(np.arange(3), 1.0)


def test_twins_count_once_and_the_first_by_order_stands_for_them() -> None:
    frame = pd.DataFrame({"key": [2, 1, 1], "id": ["c", "b", "a"]})
    assert one_row_per_key(frame, "key", "id")["id"].tolist() == ["a", "c"]
