"""The newest bookings beside those the champion was trained on: read for monitoring, and before scoring."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from booking_mlops.config.model import Drift
from booking_mlops.core.bookings.features import sampled_first_sql
from booking_mlops.core.bookings.schema import FEATURE_KEY, FEATURE_TABLE, FEATURES
from booking_mlops.core.drift.measures import (
    Finding,
    Window,
    capped,
    feature_findings,
    like_seasons,
    newest_window,
    within,
)
from booking_mlops.errors import MissingTable, RegistryError
from booking_mlops.io.registry import Version
from booking_mlops.io.tables import to_pandas
from booking_mlops.tasks.base import Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

NO_LIKE_SEASON = "no bookings of the same season to compare with, so the season may be all there is to it"
REFERENCE_FILE = "reference.parquet"
REFERENCE_ROWS_TAG = "reference_rows"
"""A version's tag: how many of the bookings it was trained on are kept with it."""


@dataclass(frozen=True)
class Sides:
    """Bookings of the newest window, and those of the same season that the champion knew; each at most `max_rows`."""

    window: Window
    current: pd.DataFrame
    reference: pd.DataFrame
    same_season: bool
    """Whether like is compared with like: false when the champion knew too few bookings of the season."""

    @property
    def about(self) -> str:
        """What was compared, in a few words."""
        against = "the same season" if self.same_season else "all bookings"
        return f"arrivals {self.window.first} to {self.window.last} against {against} as the champion knew it"


def reference_file(trained_on: pd.DataFrame, names: Sequence[str], max_rows: int, seed: int) -> bytes:
    """What a model is compared with later: at most `max_rows` of its training rows, in random order, as Parquet.

    It is kept with the model because Delta forgets: VACUUM removes the version of the features it was trained on.
    """
    columns = ["booking_id", *names, FEATURE_KEY, "arrival_date"]
    sample = trained_on[columns].sample(min(len(trained_on), max_rows), random_state=seed)
    file = io.BytesIO()
    sample.to_parquet(file, index=False)
    return file.getvalue()


def known_bookings(task: Task[Any, Any], champion: Version) -> pd.DataFrame | None:
    """The bookings that were kept with the champion, in random order; None when it is of a release that kept none.

    Raises: RegistryError when they can't be read.
    """
    if REFERENCE_ROWS_TAG not in champion.tags:
        task.log.warning(
            "version %d is of a release that kept no bookings with it; comparing with the newest", champion.number
        )
        return None
    try:
        return pd.read_parquet(io.BytesIO(task.registry.read_bytes(champion.run_id, REFERENCE_FILE)))
    except (RegistryError, ValueError) as error:
        raise RegistryError(
            f"what version {champion.number} was trained on can't be read from its run {champion.run_id}: {error}; "
            "train again, or score without looking for drift: drift.policy=skip"
        ) from error


def read_sides(
    task: Task[Any, Any],
    config: Drift,
    known: pd.DataFrame | None,
    names: Sequence[str] = FEATURES,
    features_version: int | None = None,
) -> Sides:
    """Both sides: the newest of a version of the features, and the `known_bookings` or, without any, the same table.

    Raises: MissingTable when there are no features.
    """
    features = task.lake.read(FEATURE_TABLE.name, features_version)
    # Delta's log knows, without a look at the rows.
    last = features.selectExpr("max(arrival_date) AS last").collect()[0]["last"]
    if last is None:
        raise MissingTable(f"{task.lake.full_name(FEATURE_TABLE.name)} is empty; run feature-table-creation")
    window = newest_window(last, config.window_days)
    seasons = like_seasons(window, config.season_margin_days)
    columns = ["booking_id", *names, FEATURE_KEY]

    def sample(condition: str) -> pd.DataFrame:
        return at_most(features.where(condition).select(*columns), config.max_rows)

    current = sample(window.sql("arrival_date"))
    if known is None:
        reference = sample(" OR ".join(season.sql("arrival_date") for season in seasons))
    else:
        reference = known.loc[within(seasons, known["arrival_date"]), columns].head(config.max_rows)
    same_season = len(reference) >= config.min_rows
    if not same_season:
        reference = sample("true") if known is None else known[columns].head(config.max_rows)
    return Sides(window, current, reference.reset_index(drop=True), same_season)


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


def at_most(rows: DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` of some bookings, the same ones each time: one pass, however many there are."""
    from pyspark.sql import functions as F

    return to_pandas(rows.orderBy(F.expr(sampled_first_sql("drift"))).limit(limit))
