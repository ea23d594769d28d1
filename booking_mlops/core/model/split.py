"""The holdout split, by a hash of the row: a row that is holdout once is holdout for ever."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

BoolArray = npt.NDArray[np.bool_]


def _mix(keys: npt.NDArray[Any], salt: int) -> npt.NDArray[np.uint64]:
    """Return the keys spread evenly over 64 bits, by the splitmix64 finaliser (Steele, Lea, Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = keys.astype(np.int64).view(np.uint64) + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def holdout_mask(feature_keys: npt.NDArray[Any], fraction: float, salt: int = 1) -> BoolArray:
    """Return True for the rows that are holdout, (n,): about `fraction` of the distinct keys, twins always together.

    `feature_keys` are 64-bit integers (n,). Membership depends on the key alone: a row that is holdout once is
    holdout in every later training, and the holdout of a smaller fraction lies within that of a larger one.
    Raises: ValueError when `fraction` is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    position = (_mix(feature_keys, salt) >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    mask: BoolArray = position < fraction
    return mask


def one_row_per_key(frame: pd.DataFrame, key: str, order: str) -> pd.DataFrame:
    """Return one row for each distinct `key`, the first by `order`, so that twins count once when models are judged."""
    ordered: pd.DataFrame = frame.sort_values([key, order], kind="stable")
    first: pd.DataFrame = ordered.drop_duplicates(key).reset_index(drop=True)
    return first
