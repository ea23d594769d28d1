"""Drift: the bookings that are new since the champion was trained, beside those that were known then."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pandas as pd

from booking_mlops.config.checks import require, require_levels
from booking_mlops.core.bookings.features import sample_order_sql
from booking_mlops.core.bookings.schema import FEATURE_KEY
from booking_mlops.core.bookings.tables import FEATURE_TABLE
from booking_mlops.core.drift.findings import Finding, Levels, capped
from booking_mlops.core.drift.measures import psi
from booking_mlops.core.drift.references import ARRIVAL, BOOKED, Compared, Reference, compare
from booking_mlops.errors import RegistryError
from booking_mlops.io.registry import AS_OF_TAG, CONFIRMED_BY_TAG, FEATURES_VERSION_TAG, Registry, Version
from booking_mlops.io.tables import Tables, to_pandas

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

log = logging.getLogger(__name__)

OTHER_SEASONS_ONLY = "no bookings of the same season to compare with, so the season alone may explain it"
REFERENCE_FILE = "reference.parquet"
REFERENCE_ROWS_TAG = "reference_rows"
"""A version's tag: how many of the bookings that were known when it was trained are stored with it."""
_ORDER = "sample_order"


@dataclass(frozen=True)
class DriftConfig:
    """How bookings that are new since the champion was trained are compared with those that were known then.

    Compared are those that became known in the last `window_days` before `as_of`, or all new ones where these are fewer
    than `min_rows`: with those that did in the same season of earlier years, `season_margin_days` wider on both sides,
    and just before the training; the smaller difference counts. Fewer than `min_rows` are not judged; more than
    `max_rows` are sampled. `levels` are of the population stability index of a feature, cut into `bins`: below .1 is
    chance, another year reaches .2, another hotel .8.
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
class Baseline:
    """What was known when the champion was trained, or when a later training found it to be as good and kept it.

    `version` is the one that was trained then, `features_version` what it read, as of the day `as_of`. `known` are the
    bookings, in random order; where there were too many, those whose place in that order is up to `until`.
    """

    champion: int
    version: int
    as_of: date
    features_version: int
    known: pd.DataFrame
    until: int | None

    @property
    def description(self) -> str:
        """When that was, in a few words."""
        if self.version == self.champion:
            return f"version {self.version} was trained as of {self.as_of}"
        return f"version {self.version} was trained as of {self.as_of}, and version {self.champion} kept"

    def new_among(self, known: pd.DataFrame) -> int:
        """Return how many of the bookings that a later training knows were not known, or were different."""
        key = ["booking_id", FEATURE_KEY]
        return len(known) - len(known[key].merge(self.known[key].drop_duplicates()))

    def unknown(self, features: DataFrame) -> DataFrame:
        """Return those of the features that were not known, or were different."""
        rows = features if self.until is None else features.where(f"{_order_sql()} <= {self.until}")
        key = ["booking_id", FEATURE_KEY]
        known = features.sparkSession.createDataFrame(self.known[key], f"booking_id STRING, {FEATURE_KEY} BIGINT")
        return rows.join(known, key, "left_anti")


@dataclass(frozen=True)
class DriftSample:
    """What is compared, and in a few words what was found to be new; nothing is compared where too little is."""

    description: str
    compared: Compared | None = None

    @property
    def current(self) -> pd.DataFrame:
        """The new bookings that are compared; empty when none are."""
        return self.compared.current if self.compared else pd.DataFrame()

    @property
    def reference(self) -> pd.DataFrame:
        """The first of the references; empty when nothing is compared."""
        return self.compared.references[0].rows if self.compared else pd.DataFrame()

    def lowest(
        self, check: str, subject: str, statistic: str, levels: Levels, measure: Callable[[Reference], float]
    ) -> Finding:
        """Return a finding: the least of a measure over the references. Without one of the season it is no alarm."""
        if self.compared is None:
            return Finding(check, subject, statistic, float("nan"), "too few", levels, 0, 0, self.description)
        values = [(measure(reference), reference) for reference in self.compared.references]
        value, nearest = min(values, key=lambda pair: pair[0])
        rows = len(self.current), len(nearest.rows)
        found = Finding(check, subject, statistic, value, levels.of(value), levels, *rows, f"against {nearest.what}")
        return found if self.compared.same_season else capped([found], "warn", OTHER_SEASONS_ONLY)[0]


def known_bookings(
    tables: Tables, version: int, as_of: date, labelled: pd.DataFrame, names: Sequence[str], limit: int
) -> pd.DataFrame:
    """Return at most `limit` of the bookings that a training of the day `as_of` knows, in random order.

    They are those of a version of the features that were made by then; open ones are known, too. So is whatever the
    training has learned from, `labelled`.
    """
    features = tables.read(FEATURE_TABLE.name, version)
    columns = ["booking_id", *names, FEATURE_KEY, ARRIVAL, BOOKED]
    # Delta's log knows how many there are; a history in which all have ended need not be read again.
    if features.count() == len(labelled) <= limit:
        shuffled: pd.DataFrame = labelled[columns].sample(frac=1.0, random_state=0).reset_index(drop=True)
        return shuffled
    learned = pd.to_datetime(labelled[ARRIVAL]).max().date()
    there = features.where(f"{BOOKED} <= DATE'{as_of}' OR {ARRIVAL} <= DATE'{learned}'")
    rows = random_sample(there.selectExpr(*columns, f"{_order_sql()} AS {_ORDER}"), limit)
    return rows if len(rows) == limit else rows.drop(columns=_ORDER)


def reference_file(known: pd.DataFrame) -> bytes:
    """Return the reference sample as Parquet.

    It is stored with the model because VACUUM removes the Delta version of the features that the model was trained on.
    """
    file = io.BytesIO()
    known.to_parquet(file, index=False)
    return file.getvalue()


def load_baseline(registry: Registry, champion: Version | None) -> Baseline | None:
    """Return what was known when the champion was trained or confirmed; None when its release did not record that.

    Raises: RegistryError when it can't be read.
    """
    if champion is None:
        return None
    version = _compared_with(registry, champion)
    if not {REFERENCE_ROWS_TAG, AS_OF_TAG} <= set(version.tags):
        return None
    try:
        known = pd.read_parquet(io.BytesIO(registry.read_bytes(version.run_id, REFERENCE_FILE)))
    except (RegistryError, ValueError) as error:
        raise RegistryError(
            f"the reference sample of version {version.number} can't be read from its run {version.run_id}: {error}; "
            "train again, or score without looking for drift: drift.policy=skip"
        ) from error
    if BOOKED not in known.columns:
        return None
    return Baseline(
        champion=champion.number,
        version=version.number,
        as_of=date.fromisoformat(version.tags[AS_OF_TAG]),
        features_version=int(version.tags[FEATURES_VERSION_TAG]),
        known=known,
        until=int(known[_ORDER].max()) if _ORDER in known.columns else None,
    )


def _compared_with(registry: Registry, champion: Version) -> Version:
    """Return the version whose training knew what new bookings are compared with."""
    confirmed_by = champion.tags.get(CONFIRMED_BY_TAG)
    if not confirmed_by:
        return champion
    try:
        return registry.version(int(confirmed_by))
    except RegistryError as error:
        # Somebody may have deleted it.
        log.warning(
            "what version %s knew can't be had (%s): version %d's is used", confirmed_by, error, champion.number
        )
        return champion


def read_drift_sample(
    tables: Tables,
    config: DriftConfig,
    champion: Version | None,
    baseline: Baseline | None,
    as_of: date,
    names: Sequence[str],
    features_version: int | None = None,
) -> DriftSample:
    """Read what is new in a version of the features (default: the newest), and pick what to compare it with.

    Raises: MissingTable when there are no features.
    """
    version = tables.version(FEATURE_TABLE.name) if features_version is None else features_version
    if champion is None:
        return DriftSample("no champion yet, so nothing is new to it")
    if baseline is None:
        unknown = f"version {champion.number} is of a release that did not record which bookings it knew; train again"
        log.warning("%s to have drift looked for", unknown)
        return DriftSample(unknown)
    nothing = DriftSample(f"no booking is new since {baseline.description}")
    if version == baseline.features_version and as_of <= baseline.as_of:
        return nothing
    features = tables.read(FEATURE_TABLE.name, version).where(f"{BOOKED} <= DATE'{as_of}'")
    columns = ["booking_id", *names, FEATURE_KEY, ARRIVAL, BOOKED]
    # More than are compared, since these may be the newest of many.
    new = random_sample(baseline.unknown(features).select(*columns), 4 * config.max_rows)
    if new.empty:
        return nothing
    compared = compare(
        new,
        baseline.known,
        baseline.as_of,
        as_of,
        days=config.window_days,
        margin=config.season_margin_days,
        min_rows=config.min_rows,
        max_rows=config.max_rows,
    )
    if compared is None:
        few = f"{len(new):,} bookings are new since {baseline.description}, {len(baseline.known):,} were known"
        return DriftSample(f"{few}; at least {config.min_rows:,} are compared with as many")
    return DriftSample(f"{compared.which}, new since {baseline.description}", compared)


def drift_findings(sample: DriftSample, config: DriftConfig, names: Sequence[str]) -> list[Finding]:
    """Return the PSI of each feature."""

    def of(name: str) -> Callable[[Reference], float]:
        return lambda reference: psi(reference.rows[name], sample.current[name], config.bins)

    return [sample.lowest("feature drift", name, "PSI", config.levels, of(name)) for name in names]


def random_sample(rows: DataFrame, limit: int) -> pd.DataFrame:
    """Collect at most `limit` bookings, the same ones each time, in one pass over the rows."""
    from pyspark.sql import functions as F

    return to_pandas(rows.orderBy(F.expr(_order_sql())).limit(limit))


def _order_sql() -> str:
    return sample_order_sql("drift")
