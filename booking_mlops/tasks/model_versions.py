"""What can be asked of registered versions: their history, a comparison, a reproduction."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from booking_mlops.config.loader import build
from booking_mlops.config.model import ModelTrainConfig
from booking_mlops.core.model.pipeline import as_model_input, cancellation_probability
from booking_mlops.core.model.promotion import Comparison, decide
from booking_mlops.errors import NotReproducible
from booking_mlops.io.registry import FEATURES_VERSION_TAG
from booking_mlops.io.tables import spark_errors
from booking_mlops.tasks.base import Result
from booking_mlops.tasks.history import PromotionHistory
from booking_mlops.tasks.model_train import CONFIG_FILE, LABELS_VERSION_TAG, ModelTrain


@dataclass(frozen=True)
class HistoryResult(Result):
    """Decisions, newest first: when, decision, challenger, champion after, who, reason."""

    rows: tuple[tuple[str, str, int, int | None, str, str], ...]

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        if not self.rows:
            return [("history", "no decision yet; run model-train")]
        lines = []
        for when, decision, challenger, after, who, reason in self.rows:
            champion = f"champion {after}" if after else "no champion"
            lines.append((when, f"{decision:<11}  version {challenger:<3}  {champion:<12}  by {who}: {reason}"))
        return lines


def history(task: ModelTrain, limit: int | None = None) -> HistoryResult:
    """The promotion history of the task's model."""
    rows = PromotionHistory(task).rows(limit)
    return HistoryResult(
        tuple(
            (
                row["decided_at"].strftime("%Y-%m-%d %H:%M"),
                row["decision"],
                int(row["challenger_version"]),
                row["champion_after"],
                row["principal"],
                row["reason"],
            )
            for row in rows
        )
    )


@dataclass(frozen=True)
class CompareResult(Result):
    """Two versions on the same holdout; `challenger` is the first one named."""

    challenger: int
    champion: int
    rows: int
    comparison: Comparison
    verdict: str

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        names = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier", "ece": "ECE"}
        first, second = self.comparison.challenger.as_dict(), self.comparison.champion.as_dict()
        better = self.comparison.improvement
        lines = [
            ("holdout", f"{self.rows:,} distinct bookings"),
            ("", f"version {self.challenger:<6} version {self.champion}"),
        ]
        lines += [(label, f"{first[key]:<14.4f} {second[key]:.4f}") for key, label in names.items()]
        lines.append(("improvement", f"{better.value:+.4f} [{better.lower:+.4f}, {better.upper:+.4f}] in ROC AUC"))
        return [*lines, ("verdict", f"{self.verdict}; nothing was promoted")]


def compare(task: ModelTrain, first: int, second: int) -> CompareResult:
    """Compare two versions as a training would, without promoting either."""
    versions = task.registry.version(first), task.registry.version(second)
    needed = [name for version in versions for name in task.registry.input_schema(version)]
    data = task.training_data(also=needed)
    scores = {
        name: task.version_scores(version, data.holdout)
        for name, version in zip(("challenger", "champion"), versions, strict=True)
    }
    comparison = task.comparison(data, scores, task.bootstrap(data, scores))
    decision = decide((), comparison, task.config.comparison)
    return CompareResult(first, second, len(data.holdout), comparison, decision.reason)


@dataclass(frozen=True)
class ReproduceResult(Result):
    """A second training of a version, and how far its predictions are from the registered model's."""

    version: int
    features_version: int
    labels_version: int
    rows: int
    largest_difference: float

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        same = "identical" if self.largest_difference == 0 else f"differ by up to {self.largest_difference:.3g}"
        return [
            ("version", f"{self.version}, trained again from its own configuration"),
            ("data", f"features version {self.features_version}, labels version {self.labels_version}"),
            ("predictions", f"{same} on {self.rows:,} holdout bookings"),
        ]


def reproduce(task: ModelTrain, number: int) -> ReproduceResult:
    """Train a version again from its recorded configuration and Delta versions.

    Raises: NotReproducible when the data of then can't be read any more, or the predictions differ.
    """
    version = task.registry.version(number)
    recorded = json.loads(task.registry.read_file(version.run_id, CONFIG_FILE))
    recorded["env"] = dataclasses.asdict(task.env)
    config = build(ModelTrainConfig, recorded, f"{CONFIG_FILE} of version {number}")
    again = ModelTrain(config, spark=task.spark, clock=task.clock)
    features, labels = (int(version.tags[tag]) for tag in (FEATURES_VERSION_TAG, LABELS_VERSION_TAG))
    try:
        data = again.training_data(features, labels)
    except spark_errors() as error:
        raise NotReproducible(
            f"version {number} was trained on features version {features} and labels version {labels}, which can't be "
            "read any more: VACUUM has removed their files. Keep them longer with delta.deletedFileRetentionDuration"
        ) from error
    inputs = as_model_input(data.holdout, config.features)
    registered = cancellation_probability(task.registry.load(version), inputs)
    difference = float(np.abs(registered - cancellation_probability(again.fit(data.train), inputs)).max())
    if difference > 0:
        raise NotReproducible(
            f"version {number} trained again differs by up to {difference:.3g} on the holdout; compare the library "
            "versions of its requirements.txt with the installed ones"
        )
    return ReproduceResult(number, features, labels, len(data.holdout), difference)
