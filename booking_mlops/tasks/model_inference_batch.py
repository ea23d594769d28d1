"""`model-inference-batch`: the champion scores the feature table."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from booking_mlops.config.model import ModelInferenceBatchConfig
from booking_mlops.core.bookings.schema import FEATURE_TABLE, PREDICTIONS
from booking_mlops.core.drift.measures import Finding
from booking_mlops.core.model.pipeline import cancellation_probability
from booking_mlops.errors import DataQualityError, DriftAlarm, IncompatibleModel
from booking_mlops.io.registry import Version
from booking_mlops.io.spark import start_workers
from booking_mlops.io.tables import at_once
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.drift import drift_findings, known_bookings, read_sides

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow import RecordBatch
    from pyspark.sql import Column, DataFrame

_SCORED = "booking_id STRING, cancellation_probability DOUBLE"


@dataclass(frozen=True)
class ModelInferenceBatchResult(Result):
    """Which model scored which features, and how many rows that gave."""

    model_name: str
    model_version: int
    features_version: int
    scored_on: str
    rows: int
    predicted_cancellations: int
    threshold: float
    written: bool
    drift: tuple[Finding, ...]
    """What moved enough for a warning or an alarm; empty when nothing did, or nothing had to be scored."""

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        state = "" if self.written else " (scored already today, nothing written)"
        return [
            ("predictions", f"{self.rows:,} for {self.scored_on}{state}"),
            ("", f"by {self.model_name} version {self.model_version} on features version {self.features_version}"),
            ("", f"{self.predicted_cancellations:,} at or above the threshold of {self.threshold:.3f}"),
            *[(f"drift {one.level}", f"{one.subject}: PSI {one.value:.3f}") for one in self.drift],
        ]


class ModelInferenceBatch(Task[ModelInferenceBatchConfig, ModelInferenceBatchResult]):
    """Scores on Spark's workers in bounded batches; a day scored again is replaced, never doubled."""

    name = "model-inference-batch"
    config_type = ModelInferenceBatchConfig
    help = "Score the feature table with the champion and write the predictions."

    def warm_up(self) -> None:
        """See `Task`."""
        session = self.spark

        def start() -> None:
            # Scoring starts its own when there are none.
            with suppress(Exception):
                start_workers(session, ("sklearn.compose", "sklearn.ensemble", "booking_mlops.core.model.pipeline"))

        threading.Thread(target=start, daemon=True).start()

    def run(self) -> ModelInferenceBatchResult:
        """See `Task`."""
        champion = self.registry.require_champion()
        lake = self.lake  # before the threads, each of which would start Spark
        asked: list[Any] = at_once(lambda: lake.version(FEATURE_TABLE.name), lambda: lake.fingerprint(PREDICTIONS.name))
        features_version, last_fingerprint = asked
        features = lake.read(FEATURE_TABLE.name, features_version)
        names = list(self.registry.input_schema(champion))
        missing = [name for name in names if name not in features.columns]
        if missing:
            raise IncompatibleModel(
                f"{champion.name} version {champion.number} needs {', '.join(missing)}, which "
                f"{lake.full_name(FEATURE_TABLE.name)} version {features_version} has not; "
                "run feature-table-creation of the same release, or roll the model back"
            )
        threshold = float(self.registry.metadata(champion).get("threshold", 0.5))
        now = self.clock().astimezone(timezone.utc)
        day = now.date().isoformat()
        fingerprint = hashlib.sha256(
            repr((champion.name, champion.number, champion.run_id, features_version, day)).encode()
        ).hexdigest()
        written = last_fingerprint != fingerprint
        look_for_drift = written and self.config.drift.policy != "skip"
        prepared: list[Any] = at_once(
            features.count,
            lambda: self.ensure_table(PREDICTIONS),
            # Here and not beside the scoring: when it can't be read nothing is scored.
            lambda: known_bookings(self, champion) if look_for_drift else None,
        )
        expected, _, known = prepared
        drift: tuple[Finding, ...] = ()
        counted: Mapping[str, Any] | None = None
        if written:
            scored = self._score(features, self.registry.load(champion), names)
            rows = _prediction_rows(scored, champion, threshold, features_version, now)

            def look() -> tuple[Finding, ...]:
                return self._drift(known, names, features_version) if look_for_drift else ()

            def write() -> Mapping[str, Any] | None:
                self.log.info("scoring with %s version %d", champion.name, champion.number)
                return self._write(rows, fingerprint)

            if self.config.drift.policy == "hold":
                drift = look()
                counted = write()
            else:
                # What drift has to say changes nothing about the scores.
                both: list[Any] = at_once(look, write)
                drift, counted = both
        if counted is None or counted["total"] != expected:
            # A stage that Spark had to repeat is counted twice: what is in the table decides.
            counted = self._count(day)
        if counted["total"] != expected:
            raise DataQualityError(
                f"{expected:,} bookings gave {counted['total']:,} predictions for {day}; is features' key unique?"
            )
        return ModelInferenceBatchResult(
            model_name=champion.name,
            model_version=champion.number,
            features_version=features_version,
            scored_on=day,
            rows=expected,
            predicted_cancellations=counted["positive"],
            threshold=threshold,
            written=written,
            drift=drift,
        )

    def _drift(self, known: pd.DataFrame | None, names: Sequence[str], features_version: int) -> tuple[Finding, ...]:
        """Features that moved away from what the champion was trained on.

        Raises: DriftAlarm when that is an alarm and the policy is to hold the scores.
        """
        config = self.config.drift
        found = drift_findings(read_sides(self, config, known, names, features_version), config, names)
        noticed = tuple(finding for finding in found if finding.level in ("warn", "alarm"))
        for one in noticed:
            self.log.warning("drift: %s: PSI %.3f is %s; %s", one.subject, one.value, one.level, one.detail)
        alarms = [f"{one.subject} (PSI {one.value:.3f})" for one in noticed if one.level == "alarm"]
        if alarms and config.policy == "hold":
            raise DriftAlarm(
                f"the scores are held, the predictions are as they were: drift of {', '.join(alarms)}; "
                "see what model-monitor says, retrain, or score with --set drift.policy=warn"
            )
        return noticed

    def _write(self, rows: DataFrame, fingerprint: str) -> Mapping[str, Any] | None:
        """Write the predictions; what there is of them, or None when another run was quicker."""
        from pyspark.sql import Observation

        # Counted while they are written, which spares reading them again.
        seen = Observation()
        observed = rows.observe(seen, *_counts())
        written = self.lake.replace_partitions(PREDICTIONS.name, observed, fingerprint=fingerprint)
        return seen.get if written else None

    def _count(self, day: str) -> Mapping[str, Any]:
        row = self.lake.read(PREDICTIONS.name).where(f"scored_on = DATE'{day}'").agg(*_counts()).first()
        assert row is not None, "an aggregate always has a row"
        return dict(row.asDict())

    def _score(self, features: DataFrame, model: Any, names: Sequence[str]) -> DataFrame:
        self.spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(self.config.batch_rows))
        score = _scorer(self.spark.sparkContext.broadcast(model), list(names))
        return features.select("booking_id", *names).mapInArrow(score, _SCORED)


def _prediction_rows(
    scored: DataFrame, champion: Version, threshold: float, features_version: int, now: datetime
) -> DataFrame:
    """What is said of each booking in `predictions`."""
    from pyspark.sql import functions as F

    return scored.select(
        "booking_id",
        "cancellation_probability",
        (F.col("cancellation_probability") >= threshold).cast("int").alias("prediction"),
        F.lit(champion.name).alias("model_name"),
        F.lit(champion.number).cast("bigint").alias("model_version"),
        F.lit(champion.run_id).alias("model_run_id"),
        F.lit(features_version).cast("bigint").alias("features_version"),
        F.lit(now).cast("timestamp").alias("scored_at"),
        F.lit(now.date()).alias("scored_on"),
    )


def _counts() -> list[Column]:
    """Rows, and how many of them are predicted cancellations."""
    from pyspark.sql import functions as F

    positive = F.coalesce(F.sum("prediction"), F.lit(0))
    return [F.count(F.lit(1)).alias("total"), positive.alias("positive")]


def _scorer(model: Any, names: Sequence[str]) -> Callable[[Iterator[RecordBatch]], Iterator[RecordBatch]]:
    """What each worker runs: one batch in, its probabilities out."""

    def score(batches: Iterator[RecordBatch]) -> Iterator[RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            # Text as categories: one Python string for each value instead of one for each row.
            text = [name for name in names if pa.types.is_string(batch.schema.field(name).type)]
            frame = pa.Table.from_batches([batch]).select(names).to_pandas(categories=text)
            probabilities = cancellation_probability(model.value, frame)
            ids = batch.column(batch.schema.get_field_index("booking_id"))
            yield pa.RecordBatch.from_arrays([ids, pa.array(probabilities)], ["booking_id", "cancellation_probability"])

    return score
