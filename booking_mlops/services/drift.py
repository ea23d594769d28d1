"""Drift: the newest bookings beside the reference sample that is stored with the champion."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd

from booking_mlops.config.checks import require, require_levels
from booking_mlops.core.bookings.features import DEFAULT_FEATURES, sample_order_sql
from booking_mlops.core.bookings.schema import FEATURE_KEY
from booking_mlops.core.bookings.tables import FEATURE_TABLE
from booking_mlops.core.drift.findings import Finding, Levels, capped
from booking_mlops.core.drift.measures import feature_findings
from booking_mlops.core.drift.seasons import Window, newest_window, same_seasons, within
from booking_mlops.errors import MissingTable, RegistryError
from booking_mlops.io.registry import Registry, Version
from booking_mlops.io.tables import Tables, latest_day, to_pandas

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

OTHER_SEASONS_ONLY = "no bookings of the same season to compare with, so the season alone may explain it"
REFERENCE_FILE = "reference.parquet"
REFERENCE_ROWS_TAG = "reference_rows"
"""A version's tag: how many of the bookings it was trained on are stored with it."""


@dataclass(frozen=True)
class DriftConfig:
    """How the newest bookings are compared with those the champion was trained on.

    The newest `window_days` by arrival are compared with the same days of earlier years, `season_margin_days` wider on
    both sides. Fewer than `min_rows` on a side are not judged; more than `max_rows` are sampled. `levels` are of the
    population stability index of a feature, cut into `bins`: below .1 is chance, another year reaches .2, another
    hotel .8.
    """

    window_days: int = 28
    season_margin_days: int = 14
    min_rows: int = 500
    max_rows: int = 20_000
    bins: int = 10
    levels: Levels = field(default_factory=lambda: Levels(warn=0.1, alarm=0.25))

    def __post_init__(self) -> None:
        require(1 <= self.window_days <= 182, f"drift.window_days: {self.window_days} is not between 1 and 182")
        require(self.season_margin_days >= 0, f"drift.season_margin_days: {self.season_margin_days} is below 0")
        require(0 < self.min_rows <= self.max_rows, "drift.min_rows: must be above 0 and not above max_rows")
        require(self.bins >= 2, f"drift.bins: {self.bins} is below 2")
        require_levels("drift.levels", self.levels)


@dataclass(frozen=True)
class DriftSample:
    """Bookings of the newest window, and reference bookings to compare them with; each at most `max_rows`."""

    window: Window
    current: pd.DataFrame
    reference: pd.DataFrame
    same_season: bool
    """Whether the reference is of the same season; False when it holds too few bookings of that season."""

    @property
    def description(self) -> str:
        """What is compared, in a few words."""
        against = "the same season" if self.same_season else "all bookings"
        return f"arrivals {self.window.first} to {self.window.last} against {against} as the champion knew it"


def reference_file(trained_on: pd.DataFrame, names: Sequence[str], max_rows: int, seed: int) -> bytes:
    """Return the reference sample as Parquet: at most `max_rows` of the training rows, in random order.

    It is stored with the model because VACUUM removes the Delta version of the features that the model was trained on.
    """
    columns = ["booking_id", *names, FEATURE_KEY, "arrival_date"]
    sample = trained_on[columns].sample(min(len(trained_on), max_rows), random_state=seed)
    file = io.BytesIO()
    sample.to_parquet(file, index=False)
    return file.getvalue()


def load_reference(registry: Registry, champion: Version) -> pd.DataFrame | None:
    """Return the champion's reference sample, in random order; None when its release stored none.

    Raises: RegistryError when it can't be read.
    """
    if REFERENCE_ROWS_TAG not in champion.tags:
        log.warning(
            "version %d is of a release that stored no reference sample; comparing with the newest features",
            champion.number,
        )
        return None
    try:
        return pd.read_parquet(io.BytesIO(registry.read_bytes(champion.run_id, REFERENCE_FILE)))
    except (RegistryError, ValueError) as error:
        raise RegistryError(
            f"the reference sample of version {champion.number} can't be read from its run {champion.run_id}: {error}; "
            "train again, or score without looking for drift: drift.policy=skip"
        ) from error


def read_drift_sample(
    tables: Tables,
    config: DriftConfig,
    reference: pd.DataFrame | None,
    as_of: date,
    names: Sequence[str] = DEFAULT_FEATURES,
    features_version: int | None = None,
) -> DriftSample:
    """Read the newest bookings of a version of the features, and pick what to compare them with.

    The newest are those that arrived last before the day `as_of`: of the arrivals ahead, many are not booked yet. They
    are taken only where there are no others.
    Without a reference sample (`load_reference`) they are compared with the same table.

    Raises: MissingTable when there are no features.
    """
    features = tables.read(FEATURE_TABLE.name, features_version)
    last = latest_day(features, "arrival_date", as_of) or latest_day(features, "arrival_date")
    if last is None:
        raise MissingTable(f"{tables.full_name(FEATURE_TABLE.name)} is empty; run feature-table-creation")
    window = newest_window(last, config.window_days)
    seasons = same_seasons(window, config.season_margin_days)
    columns = ["booking_id", *names, FEATURE_KEY]

    def sample(condition: str) -> pd.DataFrame:
        return random_sample(features.where(condition).select(*columns), config.max_rows)

    current = sample(window.sql("arrival_date"))
    if reference is None:
        compared = sample(" OR ".join(season.sql("arrival_date") for season in seasons))
    else:
        compared = reference.loc[within(seasons, reference["arrival_date"]), columns].head(config.max_rows)
    same_season = len(compared) >= config.min_rows
    if not same_season:
        compared = sample("true") if reference is None else reference[columns].head(config.max_rows)
    return DriftSample(window, current, compared.reset_index(drop=True), same_season)


def drift_findings(sample: DriftSample, config: DriftConfig, names: Sequence[str]) -> list[Finding]:
    """Return the PSI of each feature. Without a reference of the same season the level is at most a warning."""
    rows = len(sample.current), len(sample.reference)
    if min(rows) < config.min_rows:
        too_few = f"fewer than {config.min_rows} rows on a side; {sample.description}"
        nan = float("nan")
        return [Finding("feature drift", name, "PSI", nan, "too few", config.levels, *rows, too_few) for name in names]
    found = feature_findings(
        sample.reference, sample.current, names, config.levels, bins=config.bins, detail=sample.description
    )
    return found if sample.same_season else capped(found, "warn", OTHER_SEASONS_ONLY)


def random_sample(rows: DataFrame, limit: int) -> pd.DataFrame:
    """Collect at most `limit` bookings, the same ones each time, in one pass over the rows."""
    from pyspark.sql import functions as F

    return to_pandas(rows.orderBy(F.expr(sample_order_sql("drift"))).limit(limit))
