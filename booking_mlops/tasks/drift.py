"""The newest bookings beside those the champion was trained on: read for monitoring, and before scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd

from booking_mlops.config.model import Drift
from booking_mlops.core.drift import Finding, Window, capped, feature_findings, like_seasons, newest_window
from booking_mlops.core.features import row_sample_sql
from booking_mlops.core.schema import FEATURE_KEY, FEATURE_TABLE, FEATURES
from booking_mlops.errors import MissingTable
from booking_mlops.io.registry import FEATURES_VERSION_TAG, Version
from booking_mlops.tasks.base import Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NO_LIKE_SEASON = "no bookings of the same season to compare with, so the season may be all there is to it"


@dataclass(frozen=True)
class Sides:
    """Bookings of the newest window, and those of the same season that the champion knew; each at most `max_rows`.

    `known` is the whole feature table as the champion knew it.
    """

    window: Window
    current: pd.DataFrame
    reference: pd.DataFrame
    known: DataFrame
    in_reference: str
    """What a row of `known` meets to be in the reference."""
    same_season: bool
    """Whether like is compared with like: false when the champion knew too few bookings of the season."""

    @property
    def about(self) -> str:
        """What was compared, in a few words."""
        against = "the same season" if self.same_season else "all bookings"
        return f"arrivals {self.window.first} to {self.window.last} against {against} as the champion knew it"


def read_sides(task: Task[Any, Any], config: Drift, champion: Version | None, names: Sequence[str] = FEATURES) -> Sides:
    """Read both sides; Spark counts and samples, the driver holds at most twice `max_rows`.

    The reference comes from the table version the champion was trained on, as long as Delta still has it.

    Raises: MissingTable when there are no features.
    """
    from pyspark.sql import functions as F

    newest = task.lake.version(FEATURE_TABLE.name)
    features = task.lake.read(FEATURE_TABLE.name, newest)
    known = _known_features(task, champion, features, newest)
    last: date | None = features.agg(F.max("arrival_date")).head()[0]
    if last is None:
        raise MissingTable(f"{task.lake.full_name(FEATURE_TABLE.name)} is empty; run feature-table-creation")
    window = newest_window(last, config.window_days)
    seasons = like_seasons(window, config.season_margin_days)
    in_season = " OR ".join(season.sql("arrival_date") for season in seasons)
    counts = known.selectExpr(f"count_if({in_season}) AS season", "count(*) AS total").head()
    assert counts is not None, "an aggregate always has a row"
    same_season = int(counts["season"]) >= config.min_rows
    in_reference = in_season if same_season else "true"
    columns = [*names, FEATURE_KEY]
    current = features.where(window.sql("arrival_date"))
    total = int(counts["season" if same_season else "total"])
    return Sides(
        window,
        _sampled(current, columns, current.count(), config.max_rows),
        _sampled(known.where(in_reference), columns, total, config.max_rows),
        known,
        in_reference,
        same_season,
    )


def drift_findings(sides: Sides, config: Drift, names: Sequence[str]) -> list[Finding]:
    """PSI of each feature. Without a like season an alarm is no more than a warning."""
    if min(len(sides.current), len(sides.reference)) < config.min_rows:
        nan = float("nan")
        return [
            Finding("feature drift", name, "PSI", nan, "too few", config.levels, len(sides.current),
                    len(sides.reference), f"fewer than {config.min_rows} rows on a side; {sides.about}")
            for name in names
        ]  # fmt: skip
    found = feature_findings(sides.reference, sides.current, names, config.levels, bins=config.bins, detail=sides.about)
    return found if sides.same_season else capped(found, "warn", NO_LIKE_SEASON)


def _known_features(task: Task[Any, Any], champion: Version | None, features: DataFrame, newest: int) -> DataFrame:
    """The feature table as the champion knew it; as it is now when there is no champion, or Delta has forgotten."""
    from pyspark.errors import PySparkException

    version = (champion.tags.get(FEATURES_VERSION_TAG) if champion else None) or str(newest)
    if int(version) == newest:
        return features
    try:
        known = task.lake.read(FEATURE_TABLE.name, int(version))
        known.head()
    except PySparkException:
        task.log.warning("version %s of the features is gone; comparing with the newest", version)
        return features
    return known if set(features.columns) <= set(known.columns) else features


def _sampled(rows: DataFrame, columns: Sequence[str], total: int, limit: int) -> pd.DataFrame:
    if total > limit:
        rows = rows.where(row_sample_sql(limit / total, "drift"))
    frame: pd.DataFrame = rows.select(*columns).toPandas()
    return frame
