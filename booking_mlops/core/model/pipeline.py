"""The model: one scikit-learn pipeline, preprocessing inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    # Where it is used: a task that needs no model starts a second sooner.
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class Forest:
    """Hyperparameters of the random forest, as scikit-learn names them. `max_features` is a share, 0 to 1."""

    n_estimators: int = 100
    max_depth: int = 14
    min_samples_leaf: int = 1
    max_features: float | None = 0.4
    seed: int = 42


def build(forest: Forest, categorical: Sequence[str], numeric: Sequence[str]) -> Pipeline:
    """An unfitted pipeline: one-hot for text (a value never seen is all zeros), numbers as they are."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = ColumnTransformer(
        [
            ("categorical", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(categorical)),
            ("numeric", "passthrough", list(numeric)),
        ],
        verbose_feature_names_out=False,
    )
    model = RandomForestClassifier(
        n_estimators=forest.n_estimators,
        max_depth=forest.max_depth,
        min_samples_leaf=forest.min_samples_leaf,
        max_features="sqrt" if forest.max_features is None else forest.max_features,
        random_state=forest.seed,
        n_jobs=-1,
    )
    return Pipeline([("columns", columns), ("model", model)])


def kinds(features: pd.DataFrame, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names split into text features and numeric features."""
    numeric = [name for name in names if pd.api.types.is_numeric_dtype(features[name])]
    return [name for name in names if name not in numeric], numeric


def as_model_input(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The model's inputs with the types it was trained on: numbers as float64, text as str or categories of it."""

    def typed(column: pd.Series[Any]) -> pd.Series[Any]:
        if isinstance(column.dtype, pd.CategoricalDtype):
            return column
        return column.astype("float64" if pd.api.types.is_numeric_dtype(column) else str)

    return pd.DataFrame({name: typed(frame[name]) for name in names})


_ORDERED_BY = 4


def cancellation_probability(model: Any, inputs: pd.DataFrame) -> npt.NDArray[np.float64]:
    """P(cancelled) for each row, (n,): what `model.predict_proba` says, digit for digit.

    `inputs` has the model's features and nothing else. A forest of `build` is walked tree by tree over rows
    put in the order of the leaves in which the first trees end: neighbours then take much the same branches in
    the other trees too, which the processor foresees, and nothing is checked a hundred times.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier

    steps = getattr(model, "named_steps", {})
    columns, forest = steps.get("columns"), steps.get("model")
    if not isinstance(columns, ColumnTransformer) or not isinstance(forest, RandomForestClassifier) or not len(inputs):
        typed = as_model_input(inputs, list(inputs.columns))
        return np.asarray(model.predict_proba(typed)[:, 1], dtype=np.float64)
    matrix = _matrix(columns, inputs)
    trees = forest.estimators_
    # Numbers of at most 16 bits are sorted without comparing them.
    leaves = [
        tree.apply(matrix, check_input=False).astype(np.min_scalar_type(tree.tree_.node_count))
        for tree in trees[:_ORDERED_BY]
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
    """`columns.transform(inputs)` as trees take it; text is encoded once for each distinct combination of values."""
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


def fit(forest: Forest, inputs: pd.DataFrame, labels: npt.NDArray[Any]) -> Pipeline:
    """The pipeline fitted to `inputs`, whose columns are its features.

    It is fitted on every core and scores on one: threads add the trees up in any order, which moves
    the last digits from call to call, and Spark runs one worker for each core already.
    """
    pipeline = build(forest, *kinds(inputs, list(inputs.columns))).fit(inputs, labels)
    return pipeline.set_params(model__n_jobs=1)


def importance_by_feature(model: Pipeline, names: Sequence[str]) -> dict[str, float]:
    """The forest's impurity importance summed back to the input features; adds up to 1."""
    columns: ColumnTransformer = model.named_steps["columns"]
    values = model.named_steps["model"].feature_importances_
    result = dict.fromkeys(names, 0.0)
    encoder = columns.named_transformers_.get("categorical")
    position = 0
    categorical = list(columns.transformers_[0][2])
    for name, categories in zip(categorical, encoder.categories_ if categorical else [], strict=True):
        result[name] = float(values[position : position + len(categories)].sum())
        position += len(categories)
    for name in columns.transformers_[1][2]:
        result[str(name)] = float(values[position])
        position += 1
    return result


def permutation_importance(
    model: Any, inputs: pd.DataFrame, labels: npt.NDArray[Any], *, seed: int, repeats: int = 2
) -> dict[str, float]:
    """ROC AUC a model loses when one feature is shuffled (Breiman, 2001, on unseen rows)."""
    import joblib
    from sklearn.inspection import permutation_importance as measure
    from sklearn.metrics import roc_auc_score

    def auc(model: Any, rows: pd.DataFrame, truth: npt.NDArray[Any]) -> float:
        return float(roc_auc_score(truth, cancellation_probability(model, rows)))

    # Trees let go of Python's lock while they are walked, and the model need not be copied to other processes.
    with joblib.parallel_backend("threading"):
        found = measure(model, inputs, labels, scoring=auc, n_repeats=repeats, random_state=seed, n_jobs=-1)
    return {str(name): float(value) for name, value in zip(inputs.columns, found.importances_mean, strict=True)}
