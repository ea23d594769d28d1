"""The model: one scikit-learn pipeline, preprocessing inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder


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
    """The model's inputs with the types it was trained on: numbers as float64, text as str."""
    return pd.DataFrame(
        {
            name: frame[name].astype("float64")
            if pd.api.types.is_numeric_dtype(frame[name])
            else frame[name].astype(str)
            for name in names
        }
    )


_SORTED_BY = 3


def cancellation_probability(model: Any, inputs: pd.DataFrame) -> npt.NDArray[np.float64]:
    """P(cancelled) for each row, (n,): what `model.predict_proba` says, digit for digit.

    A forest of `build` is walked tree by tree over rows put in the order of its most important columns:
    neighbours then take the same branches, which the processor foresees, and nothing is checked a
    hundred times.
    """
    steps = getattr(model, "named_steps", {})
    columns, forest = steps.get("columns"), steps.get("model")
    if columns is None or not isinstance(forest, RandomForestClassifier) or not len(inputs):
        return np.asarray(model.predict_proba(inputs)[:, 1], dtype=np.float64)
    matrix = np.ascontiguousarray(columns.transform(inputs), dtype=np.float32)
    # Importances differ in their last digit from machine to machine; the order of rows changes no result.
    main = np.argsort(forest.feature_importances_)[-_SORTED_BY:]
    order = np.lexsort(matrix[:, main].T)
    ordered = matrix[order]
    total = np.zeros(len(ordered))
    for tree in forest.estimators_:
        total += tree.predict_proba(ordered, check_input=False)[:, 1]
    result = np.empty_like(total)
    result[order] = total / len(forest.estimators_)
    return result


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
    from sklearn.inspection import permutation_importance as measure

    found = measure(model, inputs, labels, scoring="roc_auc", n_repeats=repeats, random_state=seed)
    return {str(name): float(value) for name, value in zip(inputs.columns, found.importances_mean, strict=True)}
