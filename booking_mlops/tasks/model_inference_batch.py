"""`model-inference-batch`: the champion scores the feature table."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from booking_mlops.config.checks import require
from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings.tables import BOOKINGS, FEATURE_TABLE, PREDICTIONS
from booking_mlops.core.drift.findings import Finding
from booking_mlops.core.model.compiled_forest import compiled_forest
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability, from_arrow, unpickled
from booking_mlops.errors import DataQualityError, DriftAlarm, IncompatibleModel
from booking_mlops.io.concurrency import run_concurrently
from booking_mlops.io.registry import Version
from booking_mlops.io.spark import is_connect, set_at_run_time
from booking_mlops.io.tables import to_pandas
from booking_mlops.services.drift import Baseline, DriftConfig, drift_findings, load_baseline, read_drift_sample
from booking_mlops.services.open_bookings import any_arrival_ahead, open_features, with_open
from booking_mlops.services.promotions import require_champion
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyspark.sql import Column, DataFrame

_WAS_OPEN = "was_open"
_SCORED = f"booking_id STRING, cancellation_probability DOUBLE, {_WAS_OPEN} BOOLEAN"
_ALL = "all bookings, as scope: all asks for"
# Spark Connect takes messages of up to 128 MB; the query has to fit in too.
_CONNECT_LIMIT = 120 * 2**20


@dataclass(frozen=True)
class DriftPolicy(DriftConfig):
    """`DriftConfig`, and what an alarm means before scoring.

    `warn` says so and scores all the same; `hold` looks first, and on an alarm fails and leaves the predictions as they
    are; `skip` does not look.
    """

    max_rows: int = 5_000
    policy: Literal["warn", "hold", "skip"] = "warn"


@dataclass(frozen=True)
class ModelInferenceBatchConfig:
    """`model-inference-batch`: which bookings are scored, and where.

    `scope` is `open` (open and yet to arrive), `all`, or `auto`: the open ones when there are any, otherwise all.
    Up to `driver_rows` of them are scored on the driver, before Python workers would have imported scikit-learn; of
    more, each worker holds `batch_rows` at once.
    """

    env: EnvConfig
    scope: Literal["open", "all", "auto"] = "auto"
    driver_rows: int = 100_000
    batch_rows: int = 250_000
    drift: DriftPolicy = field(default_factory=DriftPolicy)

    def __post_init__(self) -> None:
        require(self.driver_rows >= 0, f"driver_rows: {self.driver_rows} is below 0")
        require(self.batch_rows > 0, f"batch_rows: {self.batch_rows} is not above 0")


@dataclass(frozen=True)
class ModelInferenceBatchResult(Result):
    """Which model scored which features, and how many rows that gave. `scope` says which bookings, and why those."""

    model_name: str
    model_version: int
    features_version: int
    scored_on: str
    scope: str
    rows: int
    predicted_cancellations: int
    threshold: float
    written: bool
    drift: tuple[Finding, ...]
    """Warnings and alarms; empty when there are none, or nothing had to be scored."""

    def summary(self) -> list[tuple[str, str]]:
        """Return rows, model, predicted cancellations and drift."""
        scored_already = "scored already today" if self.rows else "nothing to score"
        state = "" if self.written else f" ({scored_already}, nothing written)"
        return [
            ("predictions", f"{self.rows:,} for {self.scored_on}{state}"),
            ("", self.scope),
            ("", f"by {self.model_name} version {self.model_version} on features version {self.features_version}"),
            ("", f"{self.predicted_cancellations:,} at or above the threshold of {self.threshold:.3f}"),
            *[(f"drift {one.level}", f"{one.subject}: PSI {one.value:.3f}") for one in self.drift],
        ]


@dataclass(frozen=True)
class _Scope:
    """The features to be scored, how many they are, and why these; `bookings_version` says which are still open.

    The column `was_open` of the features says so of each booking.
    """

    features: DataFrame
    rows: int
    why: str
    bookings_version: int | None = None


@dataclass(frozen=True)
class _Scoring:
    """One day's scoring: by which model, of which features, into which rows of `predictions`."""

    champion: Version
    names: tuple[str, ...]
    threshold: float
    features_version: int
    now: datetime
    as_of: date
    bookings_version: int | None

    @property
    def day(self) -> str:
        return self.as_of.isoformat()

    @property
    def fingerprint(self) -> str:
        champion = self.champion
        model = (champion.name, champion.number, champion.run_id)
        parts = (*model, self.features_version, self.bookings_version, self.day)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class ModelInferenceBatch(Task[ModelInferenceBatchConfig, ModelInferenceBatchResult]):
    """Scores on Spark's workers in bounded batches; a day scored again is replaced, never doubled."""

    name = "model-inference-batch"
    config_type = ModelInferenceBatchConfig
    help = "Score the feature table with the champion and write the predictions."

    def run(self) -> ModelInferenceBatchResult:
        """Score each booking in scope once for the day the data stand for.

        Raises: NoChampion; MissingTable; IncompatibleModel when the features lack one of the model's inputs;
        DriftAlarm when the policy is to hold the scores; DataQualityError when rows are doubled or lost; WriteFailed.
        """
        tables, registry = self.session.tables, self.session.registry
        champion = require_champion(self.session)
        version = tables.version(FEATURE_TABLE.name)
        features = tables.read(FEATURE_TABLE.name, version)
        names = tuple(registry.input_schema(champion))
        self._require_inputs(champion, names, features, version)
        threshold = float(registry.metadata(champion).get("threshold", 0.5))
        now = self.session.clock().astimezone(timezone.utc)
        scope = self._scope(features)
        scoring = _Scoring(champion, names, threshold, version, now, self.session.as_of, scope.bookings_version)
        written = scope.rows > 0 and tables.fingerprint(PREDICTIONS.name) != scoring.fingerprint
        drift: tuple[Finding, ...] = ()
        counted: Mapping[str, Any] | None = None if scope.rows else {"total": 0, "positive": 0}
        if written:
            drift, counted = self._score(scoring, scope)
        if counted is None or counted["total"] != scope.rows:
            # Spark counts a stage that it repeated twice, so the table decides.
            counted = self._count(scoring.day)
        if counted["total"] != scope.rows:
            raise DataQualityError(
                f"{scope.rows:,} bookings gave {counted['total']:,} predictions for {scoring.day}; "
                "is features' key unique?"
            )
        return ModelInferenceBatchResult(
            model_name=champion.name,
            model_version=champion.number,
            features_version=version,
            scored_on=scoring.day,
            scope=scope.why,
            rows=scope.rows,
            predicted_cancellations=counted["positive"],
            threshold=threshold,
            written=written,
            drift=drift,
        )

    def _scope(self, features: DataFrame) -> _Scope:
        """Return which bookings are to be scored. Without open ones, `open` leaves nothing and `auto` takes all."""
        from pyspark.sql import functions as F

        tables, as_of, asked = self.session.tables, self.session.as_of, self.config.scope
        closed = features.withColumn(_WAS_OPEN, F.lit(False))
        if any_arrival_ahead(features, as_of):
            version = tables.version(BOOKINGS.name)
            if asked == "all":
                return _Scope(with_open(tables, features, as_of, version, _WAS_OPEN), features.count(), _ALL, version)
            still_open = open_features(tables, features, as_of, version).withColumn(_WAS_OPEN, F.lit(True))
            if rows := still_open.count():
                return _Scope(still_open, rows, f"the bookings that are open and arrive on {as_of} or later", version)
        if asked == "all":
            return _Scope(closed, features.count(), _ALL)
        none = f"no booking is open and arrives on {as_of} or later"
        return _Scope(features, 0, none) if asked == "open" else _Scope(closed, features.count(), f"all: {none}")

    def _require_inputs(self, champion: Version, names: Sequence[str], features: DataFrame, version: int) -> None:
        missing = [name for name in names if name not in features.columns]
        if missing:
            raise IncompatibleModel(
                f"{champion.name} version {champion.number} needs {', '.join(missing)}, which "
                f"{self.session.tables.full_name(FEATURE_TABLE.name)} version {version} does not have; "
                "run feature-table-creation of the same release, or roll the model back"
            )

    def _score(self, scoring: _Scoring, scope: _Scope) -> tuple[tuple[Finding, ...], Mapping[str, Any] | None]:
        """Look for drift and write the predictions; return the findings and the counts of what was written."""
        tables, registry, policy = self.session.tables, self.session.registry, self.config.drift.policy
        tables.ensure(PREDICTIONS)
        # Read before anything is scored: when it can't be read, nothing is.
        baseline = load_baseline(registry, scoring.champion) if policy != "skip" else None

        def look() -> tuple[Finding, ...]:
            return () if policy == "skip" else self._drift(scoring, baseline)

        def write() -> Mapping[str, Any] | None:
            rows = self._prediction_rows(scoring, scope, registry.load(scoring.champion))
            self.log.info("scoring with %s version %d", scoring.champion.name, scoring.champion.number)
            return self._write(rows, scoring.fingerprint)

        if policy == "hold":
            return look(), write()
        # Drift changes nothing about the scores, so both can be done at the same time.
        findings, counts = run_concurrently(look, write)
        return findings, counts

    def _drift(self, scoring: _Scoring, baseline: Baseline | None) -> tuple[Finding, ...]:
        """Return the features in which new bookings moved away from those the champion knows.

        Raises: DriftAlarm when that is an alarm and the policy is to hold the scores.
        """
        config = self.config.drift
        sample = read_drift_sample(
            self.session.tables,
            config,
            scoring.champion,
            baseline,
            scoring.as_of,
            scoring.names,
            scoring.features_version,
        )
        self.log.info("drift: %s", sample.description)
        found = drift_findings(sample, config, scoring.names)
        noticed = tuple(finding for finding in found if finding.level in ("warn", "alarm"))
        for one in noticed:
            self.log.warning("drift: %s: PSI %.3f is %s; %s", one.subject, one.value, one.level, one.detail)
        alarms = [f"{one.subject} (PSI {one.value:.3f})" for one in noticed if one.level == "alarm"]
        if alarms and config.policy == "hold":
            raise DriftAlarm(
                f"the scores are held, the predictions are as they were: drift of {', '.join(alarms)}; "
                "see what model-monitor says, and retrain (a training that keeps the champion ends this, too), or "
                "score with --set drift.policy=warn"
            )
        return noticed

    def _write(self, rows: DataFrame, fingerprint: str) -> Mapping[str, Any] | None:
        """Write the predictions; return the counts of them, or None when another run was quicker."""
        from pyspark.sql import Observation

        # Counted while they are written, which spares reading them again.
        seen = Observation()
        observed = rows.observe(seen, *_counts())
        written = self.session.tables.replace_partitions(PREDICTIONS.name, observed, fingerprint=fingerprint)
        return seen.get if written else None

    def _count(self, day: str) -> Mapping[str, Any]:
        predictions = self.session.tables.read(PREDICTIONS.name)
        row = predictions.where(f"scored_on = DATE'{day}'").agg(*_counts()).first()
        assert row is not None, "an aggregate always has a row"
        return dict(row.asDict())

    def _prediction_rows(self, scoring: _Scoring, scope: _Scope, model: Any) -> DataFrame:
        from pyspark.sql import functions as F

        spark, champion = self.session.spark, scoring.champion
        inputs = scope.features.select("booking_id", _WAS_OPEN, *scoring.names)
        if scope.rows <= self.config.driver_rows:
            scored = self._scored_on_driver(inputs, model, scoring.names)
        else:
            set_at_run_time(spark, "spark.sql.execution.arrow.maxRecordsPerBatch", str(self.config.batch_rows))
            scored = inputs.mapInArrow(_scorer(self._pickled(model), scoring.names), _SCORED)
        return scored.select(
            "booking_id",
            "cancellation_probability",
            (F.col("cancellation_probability") >= scoring.threshold).cast("int").alias("prediction"),
            F.lit(champion.name).alias("model_name"),
            F.lit(champion.number).cast("bigint").alias("model_version"),
            F.lit(champion.run_id).alias("model_run_id"),
            F.lit(scoring.features_version).cast("bigint").alias("features_version"),
            F.lit(scoring.now).cast("timestamp").alias("scored_at"),
            F.lit(scoring.as_of).alias("scored_on"),
            F.lit(scoring.as_of).alias("as_of"),
            _WAS_OPEN,
        )

    def _scored_on_driver(self, inputs: DataFrame, model: Any, names: Sequence[str]) -> DataFrame:
        frame = to_pandas(inputs)
        probabilities = cancellation_probability(model, as_model_input(frame, names))
        scored = frame[["booking_id"]].assign(cancellation_probability=probabilities, was_open=frame[_WAS_OPEN])
        return self.session.spark.createDataFrame(scored, _SCORED)

    def _pickled(self, model: Any) -> bytes:
        """Return the model as the workers get it: a forest as arrays, which needs no scikit-learn there.

        Raises: IncompatibleModel when it is larger than what Spark Connect takes in one message.
        """
        pickled = pickle.dumps(compiled_forest(model) or model, protocol=pickle.HIGHEST_PROTOCOL)
        if is_connect(self.session.spark) and len(pickled) > _CONNECT_LIMIT:
            raise IncompatibleModel(
                f"the model has {len(pickled) / 2**20:,.0f} MB and Spark Connect takes "
                f"{_CONNECT_LIMIT / 2**20:,.0f} MB: train a smaller one (model.n_estimators, model.max_depth, "
                "model.min_samples_leaf), or score on compute with dedicated access mode"
            )
        return pickled


def _counts() -> list[Column]:
    """Return the aggregates: rows, and how many of them are predicted cancellations."""
    from pyspark.sql import functions as F

    positive = F.coalesce(F.sum("prediction"), F.lit(0))
    return [F.count(F.lit(1)).alias("total"), positive.alias("positive")]


def _scorer(pickled: bytes, names: Sequence[str]) -> Callable[[Iterator[RecordBatch]], Iterator[RecordBatch]]:
    """Return what each worker runs: batches of features in, batches of probabilities out.

    `pickled` is a model as `cancellation_probability` takes it. Spark broadcasts a function of more than a megabyte by
    itself.
    """

    def score(batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
        import pyarrow as pa

        model = unpickled(pickled)
        for batch in batches:
            probabilities = cancellation_probability(model, from_arrow(pa.Table.from_batches([batch]), names))
            ids, was_open = (batch.column(batch.schema.get_field_index(name)) for name in ("booking_id", _WAS_OPEN))
            yield pa.RecordBatch.from_arrays(
                [ids, pa.array(probabilities), was_open], ["booking_id", "cancellation_probability", _WAS_OPEN]
            )

    return score
