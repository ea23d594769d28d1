"""What is recorded with a model version: everything needed to judge it, and to train it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from booking_mlops.core.bookings.tables import FEATURE_TABLE, LABELS
from booking_mlops.core.model.backtest import Backtest
from booking_mlops.core.model.metrics import Costs, Interval, Metrics, mean_cost, operating_threshold
from booking_mlops.core.model.promotion import Decision
from booking_mlops.core.model.scoring import as_example, as_model_input, permutation_importance
from booking_mlops.core.model.slices import slices
from booking_mlops.core.reports import model_report, plots
from booking_mlops.io.logged import TableVersion
from booking_mlops.io.machine import git_commit
from booking_mlops.io.registry import (
    AS_OF_TAG,
    FEATURES_VERSION_TAG,
    LABELS_VERSION_TAG,
    TRAINING_ROWS_TAG,
    Version,
)
from booking_mlops.services.backtest import BACKTEST_DAYS_TAG, BACKTEST_FILE, backtest_file
from booking_mlops.services.comparison import Scores
from booking_mlops.services.drift import REFERENCE_FILE, REFERENCE_ROWS_TAG, reference_file
from booking_mlops.services.training_data import TrainingData, TrainingRecipe
from booking_mlops.services.versions import CONFIG_FILE
from booking_mlops.session import Session

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Trained:
    """A fitted model and its evaluation.

    `scores` are the holdout's probabilities, by challenger and champion; `all_rows` are the metrics with the twins.
    """

    model: Pipeline
    data: TrainingData
    scores: Scores
    metrics: Metrics
    all_rows: Metrics
    bounds: Mapping[str, Interval]
    backtest: Backtest
    decision: Decision


class TrainingRecord:
    """Writes a training to MLflow: one run with metrics, parameters, files and the model, and a registered version.

    `config` is the configuration as JSON; `known` are the bookings that new ones will be compared with.
    """

    def __init__(
        self, session: Session, recipe: TrainingRecipe, costs: Costs, *, config: str, known: pd.DataFrame
    ) -> None:
        self._session = session
        self._recipe = recipe
        self._costs = costs
        self._config = config
        self._known = known

    def write(self, trained: Trained) -> tuple[str, Version]:
        """Record a training; return its run id and the version it was registered as.

        Raises: RegistryError.
        """
        environment, registry = self._session.env.environment, self._session.registry
        tags = self._tags(trained)
        inputs = as_model_input(trained.data.holdout, self._recipe.inputs)
        features, labels = self._data(trained.data)
        with registry.run(f"{environment} model-train", tags) as run_id:
            registry.log_input(features, "training")
            registry.log_input(labels, "labels")
            example = as_example(trained.data.holdout.head(5), self._recipe.inputs)
            metadata = {"threshold": self._threshold, **tags}
            logged = registry.log_model(trained.model, example, trained.model.predict_proba(example), metadata)
            registry.log_metrics(self._metrics(trained), self._params(tags), model=logged, data=features)
            registry.log_files(self._files(trained, inputs, tags))
        return run_id, registry.register(logged, tags)

    def _data(self, data: TrainingData) -> tuple[TableVersion, TableVersion]:
        full_name = self._session.tables.full_name
        return (
            TableVersion(full_name(FEATURE_TABLE.name), data.features_version),
            TableVersion(full_name(LABELS.name), data.labels_version),
        )

    @property
    def _threshold(self) -> float:
        return operating_threshold(self._costs)

    def _tags(self, trained: Trained) -> dict[str, str]:
        data, decision = trained.data, trained.decision
        return {
            "git_commit": git_commit(),
            "environment": self._session.env.environment,
            AS_OF_TAG: self._session.as_of.isoformat(),
            FEATURES_VERSION_TAG: str(data.features_version),
            LABELS_VERSION_TAG: str(data.labels_version),
            TRAINING_ROWS_TAG: str(len(data.train)),
            BACKTEST_DAYS_TAG: str(len(trained.backtest.days)),
            REFERENCE_ROWS_TAG: str(len(self._known)),
            # MLflow shows this text on the run's own page.
            "mlflow.note.content": f"{decision.outcome}: {decision.reason}\n\nReport: `{REPORT_FILE}`.",
        }

    def _params(self, tags: Mapping[str, str]) -> dict[str, Any]:
        params = {f"model.{name}": value for name, value in dataclasses.asdict(self._recipe.model).items()}
        params |= {f"holdout.{name}": value for name, value in dataclasses.asdict(self._recipe.holdout).items()}
        return params | {"max_training_rows": self._recipe.max_training_rows, "threshold": self._threshold, **tags}

    def _metrics(self, trained: Trained) -> dict[str, float]:
        labels, probabilities = trained.data.labels, trained.scores["challenger"]
        return {
            **{f"holdout_{name}": value for name, value in trained.metrics.as_dict().items()},
            **{f"holdout_all_rows_{name}": value for name, value in trained.all_rows.as_dict().items()},
            **_as_of_metrics(trained.backtest),
            **{f"holdout_{name}_lower": bound.lower for name, bound in trained.bounds.items()},
            **{f"holdout_{name}_upper": bound.upper for name, bound in trained.bounds.items()},
            "holdout_mean_cost": mean_cost(labels, probabilities, self._threshold, self._costs),
            "holdout_mean_cost_never_acting": mean_cost(labels, probabilities, 2.0, self._costs),
            "holdout_mean_cost_always_acting": mean_cost(labels, probabilities, -1.0, self._costs),
        }

    def _files(self, trained: Trained, inputs: pd.DataFrame, tags: Mapping[str, str]) -> dict[str, str | bytes]:
        """Return the run's artifacts beside the model, by path: configuration, decision, plots, report, sample."""
        pictures = self._pictures(trained, inputs)
        return {
            CONFIG_FILE: self._config,
            "decision.json": json.dumps(dataclasses.asdict(trained.decision), indent=2, default=str),
            BACKTEST_FILE: backtest_file(trained.backtest),
            REPORT_FILE: self._report(trained, pictures, tags),
            REFERENCE_FILE: reference_file(self._known),
            **{f"plots/{name}.png": png for name, png in pictures.items()},
        }

    def _pictures(self, trained: Trained, inputs: pd.DataFrame) -> dict[str, bytes]:
        labels = trained.data.labels
        shown = {name: score for name, score in trained.scores.items() if np.isfinite(score).all()}
        shuffled = permutation_importance(trained.model, inputs, labels, seed=self._recipe.model.seed)
        return {
            "roc": plots.roc(labels, shown),
            "precision_recall": plots.precision_recall(labels, shown),
            "calibration": plots.calibration(labels, shown),
            "scores": plots.score_distribution(labels, trained.scores["challenger"], self._threshold),
            "importance": plots.importance(shuffled),
        }

    def _report(self, trained: Trained, pictures: Mapping[str, bytes], tags: Mapping[str, str]) -> str:
        data, probabilities = trained.data, trained.scores["challenger"]
        comparison = trained.decision.comparison
        facts = {
            "Registered model": self._session.env.model_name,
            "Training rows": f"{len(data.train):,}",
            "Holdout": f"{len(data.holdout):,} distinct bookings; equal bookings are never on both sides",
            "Features": ", ".join(self._recipe.inputs),
            "Model": ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(self._recipe.model).items()),
            "Delta versions": f"features {data.features_version}, labels {data.labels_version}",
            "As of": tags[AS_OF_TAG],
            "Git commit": tags["git_commit"],
        }
        return model_report.render(
            model_report.ReportData(
                title=f"{self._session.env.model_name}: a challenger of {self._session.clock():%Y-%m-%d}",
                decision=trained.decision,
                metrics=trained.metrics,
                all_rows=trained.all_rows,
                intervals=trained.bounds,
                champion=comparison.champion if comparison else None,
                backtest=trained.backtest,
                at_threshold=model_report.threshold_effect(data.labels, probabilities, self._threshold),
                slices=slices(data.holdout, data.labels, probabilities),
                plots=pictures,
                facts=facts,
            )
        )


def _as_of_metrics(backtest: Backtest) -> dict[str, float]:
    """Return what the backtest measured: the ranking and the count on its first day, and over the days after it."""
    if not backtest.days:
        return {}
    first = backtest.days[0]
    ranking = first.metrics.as_dict() if first.metrics else {}
    return {
        **{f"as_of_{name}": value for name, value in ranking.items()},
        **{f"as_of_{name}": float(getattr(first, name)) for name in ("bookings", "expected", "cancelled")},
        **{
            f"backtest_{name}": float(sum(getattr(day, name) for day in backtest.judged))
            for name in ("expected", "corrected", "cancelled")
        },
        "backtest_correlation": backtest.correlation,
    }


def metrics_json(trained: Trained, champion_bounds: Mapping[str, Interval]) -> str:
    """Return every metric of both models with its interval, as the table `promotions` holds them."""

    def described(metrics: Metrics, bounds: Mapping[str, Interval]) -> dict[str, Any]:
        return {
            name: [value, bounds[name].lower, bounds[name].upper] if name in bounds else value
            for name, value in metrics.as_dict().items()
        }

    content: dict[str, Any] = {
        "challenger": described(trained.metrics, trained.bounds),
        "challenger_all_rows": trained.all_rows.as_dict(),
        "challenger_as_of": _as_of_metrics(trained.backtest),
    }
    comparison = trained.decision.comparison
    if comparison:
        content["champion"] = described(comparison.champion, champion_bounds)
        content["improvement_roc_auc"] = dataclasses.asdict(comparison.improvement)
    return json.dumps(content)
