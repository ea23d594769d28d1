"""The walk of rows through a forest, compiled by numba.

The import and the first call take more than a second together, of which compiling is 0.4 s: nothing is gained by
keeping what was compiled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from booking_mlops.core.model.compiled_forest import COLUMN_BITS

Array = npt.NDArray[Any]

_COLUMN = np.uint32(2**COLUMN_BITS - 1)
_CHILD = np.uint32(COLUMN_BITS)
# Rows that go through one tree before the next: tree and rows fit into the processor's cache.
_BLOCK = 512


@njit  # type: ignore[misc]
def _below(node: Any, row: Array, thresholds: Array, nodes: Array) -> Any:  # pragma: no cover (runs compiled)
    """Return the child of a node to which a row goes: the first, or the one after it above the threshold."""
    word = nodes[node]
    goes_right = row[np.uint64(word & _COLUMN)] > thresholds[node]
    return np.uint64(word >> _CHILD) + np.uint64(goes_right)


@njit(nogil=True)  # type: ignore[misc]
def walk(
    inputs: Array, thresholds: Array, nodes: Array, probabilities: Array, roots: Array, depths: Array, total: Array
) -> None:  # pragma: no cover (runs compiled)
    """Add to `total` (n,) the probability that each tree gives to each row of `inputs`, (n, columns).

    Eight rows are walked side by side: while the processor waits for a node of one, it goes on with another. Each
    takes as many steps as the tree is deep, without a branch to guess; a leaf leads to itself.
    """
    top = np.uint64(0)
    for begin in range(0, len(inputs), _BLOCK):
        end = min(begin + _BLOCK, len(inputs))
        for tree in range(len(roots)):
            limits, words, values = thresholds[roots[tree] :], nodes[roots[tree] :], probabilities[roots[tree] :]
            for i in range(begin, end - 7, 8):
                a = b = c = d = e = f = g = h = top
                for _ in range(depths[tree]):
                    a = _below(a, inputs[i], limits, words)
                    b = _below(b, inputs[i + 1], limits, words)
                    c = _below(c, inputs[i + 2], limits, words)
                    d = _below(d, inputs[i + 3], limits, words)
                    e = _below(e, inputs[i + 4], limits, words)
                    f = _below(f, inputs[i + 5], limits, words)
                    g = _below(g, inputs[i + 6], limits, words)
                    h = _below(h, inputs[i + 7], limits, words)
                total[i] += values[a]
                total[i + 1] += values[b]
                total[i + 2] += values[c]
                total[i + 3] += values[d]
                total[i + 4] += values[e]
                total[i + 5] += values[f]
                total[i + 6] += values[g]
                total[i + 7] += values[h]
            for i in range(end - (end - begin) % 8, end):
                node = top
                for _ in range(depths[tree]):
                    node = _below(node, inputs[i], limits, words)
                total[i] += values[node]
