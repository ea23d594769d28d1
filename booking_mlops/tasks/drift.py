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


def read_sides(
    task: Task[Any, Any],
    config: Drift,
    champion: Version | None,
    names: Sequence[str] = FEATURES,
    features_version: int | None = None,
) -> Sides:
    """Read both sides, of a version of the features or the newest; the driver holds at most twice `max_rows`.

    The reference comes from the table version the champion was trained on, as long as Delta still has it.

    Raises: MissingTable when there are no features.
    """
    newest = task.lake.version(FEATURE_TABLE.name) if features_version is None else features_version
    features = task.lake.read(FEATURE_TABLE.name, newest)
    days = _bookings_by_day(features)
    if not days:
        raise MissingTable(f"{task.lake.full_name(FEATURE_TABLE.name)} is empty; run feature-table-creation")
    known, known_days = _known_features(task, champion, features, newest) or (features, days)
    window = newest_window(max(days), config.window_days)
    seasons = like_seasons(window, config.season_margin_days)
    in_season = sum(count for day, count in known_days.items() if any(day in season for season in seasons))
    same_season = in_season >= config.min_rows
    in_reference = " OR ".join(season.sql("arrival_date") for season in seasons) if same_season else "true"
    in_window = sum(count for day, count in days.items() if day in window)
    current = _sample_sql(window.sql("arrival_date"), in_window, config.max_rows)
    reference = _sample_sql(in_reference, in_season if same_season else sum(known_days.values()), config.max_rows)
    columns = [*names, FEATURE_KEY]
    if known is features:
        # One pass over the table instead of two.
        both = features.selectExpr(*columns, f"({current}) AS _current", f"({reference}) AS _reference")
        rows = both.where("_current OR _reference").toPandas()
        frames = [rows.loc[rows[side], columns].reset_index(drop=True) for side in ("_current", "_reference")]
    else:
        frames = [
            table.where(where).select(*columns).toPandas() for table, where in ((features, current), (known, reference))
        ]
    return Sides(window, frames[0], frames[1], known, in_reference, same_season)


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


def _known_features(
    task: Task[Any, Any], champion: Version | None, features: DataFrame, newest: int
) -> tuple[DataFrame, dict[date, int]] | None:
    """The feature table as the champion knew it, and its bookings by day.

    None when that is the newest version, when there is no champion, or when Delta has forgotten.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    version = (champion.tags.get(FEATURES_VERSION_TAG) if champion else None) or str(newest)
    if int(version) == newest:
        return None
    try:
        known = task.lake.read(FEATURE_TABLE.name, int(version))
        if not set(features.columns) <= set(known.columns):
            return None
        return known, _bookings_by_day(known)
    except (PySparkException, Py4JJavaError):
        task.log.warning("version %s of the features is gone; comparing with the newest", version)
        return None


def _bookings_by_day(features: DataFrame) -> dict[date, int]:
    """Bookings by day of arrival: a few hundred rows a year, whatever the size of the table."""
    rows = features.groupBy("arrival_date").count().collect()
    return {row["arrival_date"]: int(row["count"]) for row in rows if row["arrival_date"] is not None}


def _sample_sql(condition: str, total: int, limit: int) -> str:
    return f"({condition}) AND {row_sample_sql(limit / total, 'drift')}" if total > limit else f"({condition})"
