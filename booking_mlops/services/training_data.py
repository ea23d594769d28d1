"""The rows a model is trained and judged on, and what decides the model made of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.config.checks import require, require_distinct
from booking_mlops.core.bookings.features import DEFAULT_FEATURES, sample_sql
from booking_mlops.core.bookings.schema import FEATURE_KEY, LABEL
from booking_mlops.core.bookings.tables import FEATURE_TABLE, LABELS
from booking_mlops.core.model.families import default_family
from booking_mlops.core.model.families.family import ModelFamily
from booking_mlops.core.model.scoring import as_model_input
from booking_mlops.core.model.split import holdout_mask, one_row_per_key
from booking_mlops.errors import DataQualityError, IncompatibleModel
from booking_mlops.io.tables import Tables, to_pandas

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from sklearn.pipeline import Pipeline

log = logging.getLogger(__name__)

SLICED_FEATURES = ("market_segment_type", "lead_time", "repeated")
"""Features the report slices the holdout by, read even when the model does not take them."""


@dataclass(frozen=True)
class Holdout:
    """The frozen holdout: the share of the distinct feature keys, and the salt of the hash that picks them."""

    fraction: float = 0.2
    salt: int = 1

    def __post_init__(self) -> None:
        require(0.0 < self.fraction < 1.0, f"holdout.fraction: {self.fraction:g} is not between 0 and 1")

    def mask(self, feature_keys: pd.Series) -> npt.NDArray[np.bool_]:
        """Return True for the rows that are holdout, (n,)."""
        return holdout_mask(feature_keys.to_numpy(), self.fraction, self.salt)


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """What decides a fitted model, apart from the data: its inputs, its family, the split and the number of rows.

    The inputs are `features`, with `add_features` after them and without `drop_features`.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"forest": "model"}

    features: tuple[str, ...] = DEFAULT_FEATURES
    add_features: tuple[str, ...] = ()
    drop_features: tuple[str, ...] = ()
    model: ModelFamily = field(default_factory=default_family)
    holdout: Holdout = field(default_factory=Holdout)
    max_training_rows: int = 1_000_000

    def __post_init__(self) -> None:
        require_distinct("features", (*self.features, *self.add_features))
        unknown = set(self.drop_features) - {*self.features, *self.add_features}
        require(not unknown, f"drop_features: {', '.join(sorted(unknown))} is not among the features")
        require(len(self.inputs) > 0, "features: at least one is needed")
        require(self.max_training_rows > 0, f"max_training_rows: {self.max_training_rows} is not above 0")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The model's inputs, in order."""
        return tuple(name for name in (*self.features, *self.add_features) if name not in self.drop_features)

    def fit(self, train: pd.DataFrame) -> Pipeline:
        """Fit the model to rows that have the inputs and the label."""
        return self.model.fit(as_model_input(train, self.inputs), train[LABEL].to_numpy())


@dataclass(frozen=True)
class TrainingData:
    """The rows of one training: all training rows, and one holdout row for each distinct feature key.

    `holdout_twins` are the holdout's other rows, which have the same features as one of those.
    """

    train: pd.DataFrame
    holdout: pd.DataFrame
    holdout_twins: pd.DataFrame
    features_version: int
    labels_version: int

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels of the holdout, (n,)."""
        return self.holdout[LABEL].to_numpy(dtype=np.int64)

    @property
    def everything(self) -> pd.DataFrame:
        """Every row, of both sides."""
        return pd.concat([self.train, self.holdout, self.holdout_twins], ignore_index=True)


def read_training_data(
    tables: Tables,
    recipe: TrainingRecipe,
    *,
    features_version: int | None = None,
    labels_version: int | None = None,
    also: Sequence[str] = (),
) -> TrainingData:
    """Read features and labels at Delta versions (default: the newest) and split them by the stable hash.

    `also` names columns that another model needs; those the table does not have are left out.

    Raises: MissingTable; IncompatibleModel when an input is not in the table; DataQualityError when either side of the
    split is empty or holds one class only.
    """
    if features_version is None:
        features_version = tables.version(FEATURE_TABLE.name)
    if labels_version is None:
        labels_version = tables.version(LABELS.name)
    features = tables.read(FEATURE_TABLE.name, features_version)
    missing = [name for name in recipe.inputs if name not in features.columns]
    if missing:
        raise IncompatibleModel(
            f"{tables.full_name(FEATURE_TABLE.name)} version {features_version} has no column "
            f"{', '.join(missing)}; change 'features' or run feature-table-creation"
        )
    labels = tables.read(LABELS.name, labels_version)
    labelled = _at_most(features, labels, recipe.max_training_rows)
    described = [
        name
        for name in dict.fromkeys((*SLICED_FEATURES, *also))
        if name not in recipe.inputs and name in features.columns
    ]
    columns = ["booking_id", *recipe.inputs, *described, FEATURE_KEY, "arrival_date", "booked_on", LABEL]
    # The order of the rows decides the fitted model, so it is fixed.
    frame = to_pandas(labelled.select(*columns)).sort_values("booking_id", kind="stable").reset_index(drop=True)
    if frame[list(recipe.inputs)].isna().any(axis=None):
        raise DataQualityError(
            f"{tables.full_name(FEATURE_TABLE.name)} has empty feature values; run feature-table-creation again"
        )
    return TrainingData(*_split(frame, recipe.holdout), features_version, labels_version)


def _at_most(features: DataFrame, labels: DataFrame, limit: int) -> DataFrame:
    """Join features and labels; above `limit` rows a stable sample of about so many is taken."""
    joined = features.join(labels.select("booking_id", LABEL), "booking_id")
    # Delta's log knows how many features there are; counting those with a label costs a join.
    if features.count() > limit and (total := joined.count()) > limit:
        log.info("sampling about %s of %s rows", f"{limit:,}", f"{total:,}")
        joined = joined.where(sample_sql(limit / total, "training"))
    return joined


def _split(frame: pd.DataFrame, rule: Holdout) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    mask = rule.mask(frame[FEATURE_KEY])
    train = frame[~mask].reset_index(drop=True)
    holdout = one_row_per_key(frame[mask], FEATURE_KEY, "booking_id")
    twins = frame[mask & ~frame["booking_id"].isin(holdout["booking_id"])].reset_index(drop=True)
    for name, part in (("training", train), ("holdout", holdout)):
        if part[LABEL].nunique() < 2:
            raise DataQualityError(
                f"the {name} rows ({len(part)}) hold fewer than two classes; more labelled bookings are needed"
            )
    return train, holdout, twins
