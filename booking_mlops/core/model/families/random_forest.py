"""Random forests (Breiman, 2001)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt
import pandas as pd

from booking_mlops.core.model.families.family import (
    ModelFamily,
    check_above_zero,
    check_not_negative,
    check_share,
    text_and_numeric,
)

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class RandomForest(ModelFamily):
    """Hyperparameters of `RandomForestClassifier`, as scikit-learn names them.

    `max_features` is the share of the columns that each split looks at; None looks at their square root.
    """

    kind: Literal["random_forest"] = "random_forest"
    n_estimators: int = 100
    max_depth: int = 14
    min_samples_leaf: int = 1
    max_features: float | None = 0.4
    seed: int = 42

    def __post_init__(self) -> None:
        check_above_zero("n_estimators", self.n_estimators)
        check_above_zero("max_depth", self.max_depth)
        check_above_zero("min_samples_leaf", self.min_samples_leaf)
        if self.max_features is not None:
            check_share("max_features", self.max_features)
        check_not_negative("seed", self.seed)

    def fit(self, inputs: pd.DataFrame, labels: npt.NDArray[Any]) -> Pipeline:
        """See `ModelFamily`. Text is one-hot encoded (a value never seen is all zeros), numbers are taken as they are.

        The forest is fitted on every core and scores on one: threads add up the trees in any order, which changes
        the last digits from call to call, and Spark already runs one worker for each core.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder

        text, numeric = text_and_numeric(inputs)
        columns = ColumnTransformer(
            [
                ("categorical", OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
                ("numeric", "passthrough", numeric),
            ],
            verbose_feature_names_out=False,
        )
        forest = RandomForestClassifier(
            n_estimators=self.n_estimators,
            max_depth=self.max_depth,
            min_samples_leaf=self.min_samples_leaf,
            max_features="sqrt" if self.max_features is None else self.max_features,
            random_state=self.seed,
            n_jobs=-1,
        )
        pipeline = Pipeline([("columns", columns), ("model", forest)]).fit(inputs, labels)
        return pipeline.set_params(model__n_jobs=1)

    def importance(self, model: Pipeline, inputs: pd.DataFrame, labels: npt.NDArray[Any]) -> dict[str, float]:  # noqa: ARG002
        """See `ModelFamily`. Impurity importance; that of a text feature is the sum over its one-hot columns."""
        columns = model.named_steps["columns"]
        values = model.named_steps["model"].feature_importances_
        result = dict.fromkeys(map(str, inputs.columns), 0.0)
        text, numeric = (list(names) for _, _, names in columns.transformers_[:2])
        categories = columns.named_transformers_["categorical"].categories_ if text else []
        position = 0
        for name, known in zip(text, categories, strict=True):
            result[name] = float(values[position : position + len(known)].sum())
            position += len(known)
        for name in numeric:
            result[name] = float(values[position])
            position += 1
        return result
