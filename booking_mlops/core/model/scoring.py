"""Scoring with a fitted model, of whatever family: its inputs, its probabilities, what it loses without a feature."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.model.compiled_forest import CompiledForest, forest_steps

if TYPE_CHECKING:
    import pyarrow

    # Importing scikit-learn takes a second, which a task that scores nothing need not spend.
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier


def as_model_input(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the columns `names` with the types models are trained on: numbers as float64, text as str.

    Text that comes as a pandas categorical stays one.
    """

    def typed(column: pd.Series[Any]) -> pd.Series[Any]:
        if isinstance(column.dtype, pd.CategoricalDtype):
            return column
        return column.astype("float64" if pd.api.types.is_numeric_dtype(column) else str)

    return pd.DataFrame({name: typed(frame[name]) for name in names})


def as_example(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the columns `names` as a notebook has them: whole numbers as int64, others as float64, text as str.

    A model's signature made of it takes whole numbers of any size, which one of `as_model_input` would refuse.
    """
    inputs = as_model_input(frame, names)
    whole = {name: "int64" for name in names if pd.api.types.is_integer_dtype(frame[name])}
    example: pd.DataFrame = inputs.astype(whole)
    return example


def from_arrow(table: pyarrow.Table, names: Sequence[str]) -> pd.DataFrame:
    """Return the columns `names` of a feature table with its own types, and text as categories.

    That is one Python string for each value instead of one for each row.
    """
    import pyarrow as pa

    text = [name for name in names if pa.types.is_string(table.schema.field(name).type)]
    frame: pd.DataFrame = table.select(names).to_pandas(categories=text)
    return frame


@functools.lru_cache(maxsize=1)
def unpickled(pickled: bytes) -> Any:
    """Return the model that was pickled, on a worker: a second task of the same process gets the same object."""
    return pickle.loads(pickled)  # noqa: S301 (pickled by the driver of the same run)


_ORDERING_TREES = 4


def cancellation_probability(model: Any, inputs: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the probability of a cancellation for each row of `inputs`, (n,): equal to `model.predict_proba`.

    `model` is a fitted pipeline, or its `CompiledForest`. `inputs` has the columns of the model's features and no
    others, as `as_model_input` returns them or with the feature table's own types.
    """
    if isinstance(model, CompiledForest):
        return model.probability(inputs)
    steps = forest_steps(model)
    if steps is not None and len(inputs):
        return _forest_probability(*steps, inputs)
    typed = as_model_input(inputs, list(inputs.columns))
    return np.asarray(model.predict_proba(typed)[:, 1], dtype=np.float64)


def _forest_probability(
    columns: ColumnTransformer, forest: RandomForestClassifier, inputs: pd.DataFrame
) -> npt.NDArray[np.float64]:
    """Return what the forest's `predict_proba` returns, in about half the time.

    Rows are put in the order of the leaves in which they end in the first trees. Neighbours then take mostly the same
    branches in the other trees too, which the processor predicts well. The inputs are checked once, not once a tree.
    """
    matrix = _matrix(columns, inputs)
    trees = forest.estimators_
    # NumPy sorts integers of at most 16 bits by radix sort, which is faster.
    leaves = [
        tree.apply(matrix, check_input=False).astype(np.min_scalar_type(tree.tree_.node_count))
        for tree in trees[:_ORDERING_TREES]
    ]
    order = np.lexsort(leaves[::-1])
    ordered = matrix[order]
    total = np.zeros(len(ordered))
    for tree in trees:
        total += tree.predict_proba(ordered, check_input=False)[:, 1]
    result = np.empty_like(total)
    result[order] = total / len(trees)
    return result


def _matrix(columns: ColumnTransformer, inputs: pd.DataFrame) -> npt.NDArray[np.float32]:
    """Return `columns.transform(inputs)` as float32, which trees need.

    Text is encoded once for each distinct combination of values, which is much faster than once for each row.
    """
    text, numeric = (list(names) for _, _, names in columns.transformers_[:2])
    if not text:
        return np.ascontiguousarray(columns.transform(inputs), dtype=np.float32)
    combination = np.zeros(len(inputs), dtype=np.int64)
    for name in text:
        codes, values = pd.factorize(inputs[name], use_na_sentinel=False)
        combination = combination * len(values) + codes
    _, first, row_of = np.unique(combination, return_index=True, return_inverse=True)
    distinct = columns.transform(as_model_input(inputs.iloc[first], list(inputs.columns)))
    encoded = distinct[:, : distinct.shape[1] - len(numeric)].astype(np.float32)
    return np.hstack([encoded[row_of], inputs[numeric].to_numpy(dtype=np.float32)])


def permutation_importance(
    model: Any, inputs: pd.DataFrame, labels: npt.NDArray[Any], *, seed: int, repeats: int = 2
) -> dict[str, float]:
    """Return by feature how much ROC AUC the model loses when the feature is shuffled: the mean of `repeats` tries.

    Breiman, "Random Forests", 2001, here on any rows and any model.
    """
    import joblib
    from sklearn.inspection import permutation_importance as measure
    from sklearn.metrics import roc_auc_score

    def auc(model: Any, rows: pd.DataFrame, truth: npt.NDArray[Any]) -> float:
        return float(roc_auc_score(truth, cancellation_probability(model, rows)))

    # scikit-learn's trees release Python's lock while they predict, and threads need no copy of the model.
    with joblib.parallel_backend("threading"):
        found = measure(model, inputs, labels, scoring=auc, n_repeats=repeats, random_state=seed, n_jobs=-1)
    return {str(name): float(value) for name, value in zip(inputs.columns, found.importances_mean, strict=True)}
