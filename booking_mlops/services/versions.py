"""What can be asked of registered versions: their history, a comparison, a reproduction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from booking_mlops.config.recorded import read_recorded
from booking_mlops.core.model.promotion import Comparison, ComparisonRule, Decision, decide
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.errors import NotReproducible
from booking_mlops.io.registry import FEATURES_VERSION_TAG, LABELS_VERSION_TAG
from booking_mlops.io.tables import spark_errors
from booking_mlops.services.comparison import compare_scores, resampled_metrics, version_scores
from booking_mlops.services.promotions import PromotionHistory
from booking_mlops.services.training_data import TrainingRecipe, read_training_data
from booking_mlops.session import Session

CONFIG_FILE = "config.json"
"""A run's artifact: the configuration of the training."""


@dataclass(frozen=True)
class History:
    """Decisions, newest first: when, decision, challenger, champion after it, who, reason."""

    rows: tuple[tuple[str, str, int, int | None, str, str], ...]

    def summary(self) -> list[tuple[str, str]]:
        """Return a label and a text for each decision."""
        if not self.rows:
            return [("history", "no decision yet; run model-train")]
        lines = []
        for when, decision, challenger, after, who, reason in self.rows:
            champion = f"champion {after}" if after else "no champion"
            lines.append((when, f"{decision:<11}  version {challenger:<3}  {champion:<12}  by {who}: {reason}"))
        return lines


def history(session: Session, limit: int | None = None) -> History:
    """Read the promotion history of the environment's model, at most the last `limit` decisions."""
    rows = PromotionHistory(session).rows(limit)
    return History(
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
class VersionComparison:
    """Two versions on the same holdout; `challenger` is the one that was named first."""

    challenger: int
    champion: int
    rows: int
    comparison: Comparison
    decision: Decision

    def summary(self) -> list[tuple[str, str]]:
        """Return the metrics side by side, the improvement and what a training would decide."""
        names = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "log_loss": "log loss", "brier": "Brier", "ece": "ECE"}
        first, second = self.comparison.challenger.as_dict(), self.comparison.champion.as_dict()
        better = self.comparison.improvement
        lines = [
            ("holdout", f"{self.rows:,} distinct bookings"),
            ("", f"version {self.challenger:<6} version {self.champion}"),
        ]
        lines += [(label, f"{first[key]:<14.4f} {second[key]:.4f}") for key, label in names.items()]
        lines.append(("improvement", f"{better.value:+.4f} [{better.lower:+.4f}, {better.upper:+.4f}] in ROC AUC"))
        return [*lines, ("verdict", f"{self.decision.reason}; nothing was promoted")]


def compare(
    session: Session, recipe: TrainingRecipe, rule: ComparisonRule, first: int, second: int
) -> VersionComparison:
    """Compare two versions as a training would, on the recipe's holdout, without promoting either.

    Raises: RegistryError when a version does not exist.
    """
    registry = session.registry
    versions = registry.version(first), registry.version(second)
    needed = [name for version in versions for name in registry.input_schema(version)]
    data = read_training_data(session.tables, recipe, also=needed)
    scores = {
        name: version_scores(registry, version, data.holdout)
        for name, version in zip(("challenger", "champion"), versions, strict=True)
    }
    comparison = compare_scores(data.labels, scores, resampled_metrics(data.labels, scores, rule), rule)
    return VersionComparison(first, second, len(data.holdout), comparison, decide((), comparison, rule))


@dataclass(frozen=True)
class Reproduction:
    """A second training of a version, and how far its probabilities are from the registered model's."""

    version: int
    features_version: int
    labels_version: int
    rows: int
    largest_difference: float

    def summary(self) -> list[tuple[str, str]]:
        """Return which version was trained again, on which data, and how its predictions compare."""
        same = "identical" if self.largest_difference == 0 else f"differ by up to {self.largest_difference:.3g}"
        return [
            ("version", f"{self.version}, trained again from its own configuration"),
            ("data", f"features version {self.features_version}, labels version {self.labels_version}"),
            ("predictions", f"{same} on {self.rows:,} holdout bookings"),
        ]


def reproduce(session: Session, number: int) -> Reproduction:
    """Train a version again from its recorded configuration and Delta versions.

    Raises: NotReproducible when the data of that training can't be read any more, or the predictions differ;
    ConfigError when the configuration is of a later release.
    """
    registry = session.registry
    version = registry.version(number)
    recorded = registry.read_file(version.run_id, CONFIG_FILE)
    recipe = read_recorded(TrainingRecipe, recorded, f"{CONFIG_FILE} of version {number}")
    features, labels = (int(version.tags[tag]) for tag in (FEATURES_VERSION_TAG, LABELS_VERSION_TAG))
    try:
        data = read_training_data(session.tables, recipe, features_version=features, labels_version=labels)
    except spark_errors() as error:
        raise NotReproducible(
            f"version {number} was trained on features version {features} and labels version {labels}, which can't be "
            "read any more: VACUUM has removed their files. Keep them longer with delta.deletedFileRetentionDuration"
        ) from error
    inputs = as_model_input(data.holdout, recipe.inputs)
    registered = cancellation_probability(registry.load(version), inputs)
    difference = float(np.abs(registered - cancellation_probability(recipe.fit(data.train), inputs)).max())
    if difference > 0:
        raise NotReproducible(
            f"version {number} trained again differs by up to {difference:.3g} on the holdout; compare the library "
            "versions of its requirements.txt with the installed ones"
        )
    return Reproduction(number, features, labels, len(data.holdout), difference)
