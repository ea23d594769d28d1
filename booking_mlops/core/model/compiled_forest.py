"""Random forests as arrays, which compiled code walks through: for tables of many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier

COLUMN_BITS = 10
"""Bits of a node that say which column it looks at; those above say which node its first child is."""
_MOST_COLUMNS = 2**COLUMN_BITS
_MOST_NODES = 2 ** (32 - COLUMN_BITS)


@dataclass(frozen=True)
class CompiledForest:
    """A fitted pipeline of one-hot encoding and a random forest of two classes, as `compiled_forest` makes it.

    `text` has the text features and the values that are known of each, `numeric` the other features. `thresholds`,
    `nodes` and `probabilities` (nodes,) have one tree after the other; `roots` and `depths` (trees,) say where each
    begins and how deep it is. A value up to the threshold goes to a node's first child, one above it to the node after
    that; a leaf is its own first child. `probabilities` are those of the second class.
    """

    text: dict[str, list[Any]]
    numeric: list[str]
    thresholds: npt.NDArray[np.float32]
    nodes: npt.NDArray[np.uint32]
    probabilities: npt.NDArray[np.float64]
    roots: npt.NDArray[np.int64]
    depths: npt.NDArray[np.int64]

    def probability(self, inputs: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the probability of the second class for each row of `inputs`, (n,): that of `predict_proba`."""
        from booking_mlops.core.model.forest_walk import walk

        total = np.zeros(len(inputs))
        walk(self._matrix(inputs), self.thresholds, self.nodes, self.probabilities, self.roots, self.depths, total)
        return total / len(self.roots)

    def _matrix(self, inputs: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Return the columns that the trees look at, (n, columns): encoded text, then the numbers twice.

        A missing number is below all others in the first copy and above them in the second: each node looks at the copy
        that sends it to the node's own side.
        """
        width = sum(map(len, self.text.values()))
        matrix = np.zeros((len(inputs), width + 2 * len(self.numeric)), dtype=np.float32)
        position = 0
        for name, known in self.text.items():
            codes, values = pd.factorize(inputs[name])
            column_of = {value: position + number for number, value in enumerate(known)}
            # The last is for what is missing, whose code is -1.
            column = np.array([*(column_of.get(value, -1) for value in values), -1])[codes]
            rows = np.flatnonzero(column >= 0)
            matrix[rows, column[rows]] = 1
            position += len(known)
        numbers = matrix[:, width : width + len(self.numeric)]
        for number, name in enumerate(self.numeric):
            numbers[:, number] = inputs[name]
        missing = np.isnan(numbers)
        matrix[:, width + len(self.numeric) :] = np.where(missing, np.inf, numbers)
        numbers[missing] = -np.inf
        return matrix


def forest_steps(model: Any) -> tuple[ColumnTransformer, RandomForestClassifier] | None:
    """Return the two steps of a fitted pipeline with a random forest; None when the model is another."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier

    steps = getattr(model, "named_steps", {})
    columns, forest = steps.get("columns"), steps.get("model")
    if isinstance(columns, ColumnTransformer) and isinstance(forest, RandomForestClassifier):
        return columns, forest
    return None


def compiled_forest(model: Any) -> CompiledForest | None:
    """Return a fitted pipeline's forest as arrays; None when it is of another kind, or too large for them."""
    if (steps := forest_steps(model)) is None:
        return None
    columns, forest = steps
    text, numeric = (list(names) for _, _, names in columns.transformers_[:2])
    trees = [fitted.tree_ for fitted in forest.estimators_]
    width = forest.n_features_in_ + len(numeric)
    if width > _MOST_COLUMNS or max(tree.node_count for tree in trees) > _MOST_NODES:
        return None
    known = [list(values) for values in columns.named_transformers_["categorical"].categories_] if text else []
    thresholds, nodes, probabilities = zip(*(_arrays(tree, len(numeric)) for tree in trees), strict=True)
    return CompiledForest(
        text=dict(zip(text, known, strict=True)),
        numeric=numeric,
        thresholds=np.concatenate(thresholds),
        nodes=np.concatenate(nodes),
        probabilities=np.concatenate(probabilities),
        roots=np.cumsum([0, *(tree.node_count for tree in trees[:-1])]),
        depths=np.array([tree.max_depth for tree in trees]),
    )


def _arrays(tree: Any, numbers: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32], npt.NDArray[np.float64]]:
    """Return a tree's thresholds, nodes and probabilities, level by level; its last `numbers` features are numeric."""
    left, right = tree.children_left, tree.children_right
    levels, children = [], []
    level, placed = np.zeros(1, dtype=np.int64), 0
    while len(level):
        inner = left[level] >= 0
        levels.append(level)
        own = placed + np.arange(len(level))
        placed += len(level)
        children.append(np.where(inner, placed + 2 * (np.cumsum(inner) - 1), own))
        level = np.column_stack([left[level[inner]], right[level[inner]]]).ravel()
    order, first_child = np.concatenate(levels), np.concatenate(children).astype(np.uint32)
    is_leaf = left[order] < 0
    # An infinite threshold sends every number to the left, and only what is missing to the right.
    exact = np.minimum(tree.threshold[order], np.finfo(np.float32).max)
    threshold = exact.astype(np.float32)
    # scikit-learn compares a float32 with the float64: rounded down, it divides the same values.
    threshold = np.where(threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    threshold[is_leaf] = np.inf
    feature = tree.feature[order]
    second_copy = (feature >= tree.n_features - numbers) & (tree.missing_go_to_left[order] == 0)
    column = np.where(is_leaf, 0, feature + numbers * second_copy).astype(np.uint32)
    shares = tree.value[order, 0, :]
    # Before 1.5, scikit-learn had the weights of the classes here.
    if not np.isclose(tree.value[0].sum(), 1):
        shares = shares / shares.sum(axis=1, keepdims=True)
    return threshold, first_child << np.uint32(COLUMN_BITS) | column, np.ascontiguousarray(shares[:, 1])
