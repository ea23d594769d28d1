"""Why a booking is likely to be cancelled: what its features add to the probability, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

_SMALLEST = 0.01


@dataclass(frozen=True)
class Reason:
    """A feature of a booking, its value, and by how much the probability falls when the value is the typical one."""

    feature: str
    value: Any
    typical: Any
    effect: float


def typical_values(inputs: pd.DataFrame) -> dict[str, Any]:
    """Return for each feature its median, or its most frequent text."""
    return {
        str(name): column.median() if pd.api.types.is_numeric_dtype(column) else column.mode().iloc[0]
        for name, column in inputs.items()
    }


def reasons(
    inputs: pd.DataFrame,
    typical: dict[str, Any],
    probability: Callable[[pd.DataFrame], npt.NDArray[np.float64]],
    most: int = 3,
) -> list[list[Reason]]:
    """Return for each row of `inputs` at most `most` features that raise its probability, the strongest first.

    A feature's effect is how far the probability falls when that feature alone takes its typical value: an answer to
    "what if", which is cheap and honest about one feature, and blind to what only several features do together.
    `probability` scores rows like `inputs`, all in one call: rows times features and one more. Effects below a
    hundredth are left out.
    """
    names = [str(name) for name in inputs.columns]
    changed = [inputs.assign(**{name: typical[name]}).astype(inputs.dtypes) for name in names]
    scores = probability(pd.concat([inputs, *changed], ignore_index=True)).reshape(len(names) + 1, len(inputs))
    found = []
    for row, effects in enumerate((scores[0] - scores[1:]).T):
        strongest = [at for at in np.argsort(-effects, kind="stable")[:most] if effects[at] >= _SMALLEST]
        found.append(
            [Reason(names[at], inputs.iloc[row, at], typical[names[at]], float(effects[at])) for at in strongest]
        )
    return found
