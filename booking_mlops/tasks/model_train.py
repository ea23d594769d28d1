"""`model-train`: train a challenger, judge it, and promote it only when it is better than the champion."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.config.model import ModelTrainConfig
from booking_mlops.core.bookings.features import sample_sql
from booking_mlops.core.bookings.quality import profile
from booking_mlops.core.bookings.schema import FEATURE_KEY, FEATURE_TABLE, LABEL, LABELS
from booking_mlops.core.model.metrics import (
    Draws,
    Interval,
    Metrics,
    bootstrap,
    evaluate,
    interval,
    intervals,
    mean_cost,
    operating_threshold,
    single_feature_auc,
)
from booking_mlops.core.model.pipeline import (
    as_model_input,
    cancellation_probability,
    fit,
    importance_by_feature,
    permutation_importance,
)
from booking_mlops.core.model.promotion import Comparison, Decision, GateInputs, check_gates, decide
from booking_mlops.core.model.slices import slices
from booking_mlops.core.model.split import holdout_mask, later_mask, one_row_each
from booking_mlops.core.reports import model_report, plots
from booking_mlops.errors import DataQualityError, IncompatibleModel
from booking_mlops.io.machine import git_commit
from booking_mlops.io.registry import FEATURES_VERSION_TAG, Version
from booking_mlops.io.tables import to_pandas
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.drift import REFERENCE_FILE, REFERENCE_ROWS_TAG, reference_file
from booking_mlops.tasks.history import PromotionHistory
from booking_mlops.tasks.permissions import apply_permissions

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

TRAINING_ROWS_TAG = "training_rows"
LABELS_VERSION_TAG = "labels_version"
SLICED_FEATURES = ("market_segment_type", "lead_time", "repeated")
CONFIG_FILE = "config.json"
REPORT_FILE = "report.html"
_SECRET_WORDS = re.compile(r"token|secret|password|credential|api_?key", re.IGNORECASE)


@dataclass(frozen=True)
class TrainingData:
    """The rows of one training: all training rows, and one holdout row for each distinct feature key."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    features_version: int
    labels_version: int

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels of the holdout."""
        return self.holdout[LABEL].to_numpy(dtype=np.int64)


Scores = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Trained:
    """A fitted model with what was found out about it. `scores` are the holdout's, by challenger and champion."""

    model: Pipeline
    data: TrainingData
    scores: Scores
    metrics: Metrics
    bounds: Mapping[str, Interval]
    time_ordered: Metrics
    decision: Decision


@dataclass(frozen=True)
class ModelTrainResult(Result):
    """The new version, how it did, and what was decided about it."""

    model_name: str
    version: int
    run_id: str
    training_rows: int
    metrics: Metrics
    auc_interval: Interval
    time_ordered: Metrics
    threshold: float
    decision: Decision
    champion_version: int | None
    features_version: int
    labels_version: int

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        auc, later = self.auc_interval, self.time_ordered
        champion = f"version {self.champion_version}" if self.champion_version else "none"
        return [
            ("model", f"{self.model_name} version {self.version}, trained on {self.training_rows:,} rows"),
            ("holdout", f"{self.metrics.rows:,} distinct bookings, twins kept out of training"),
            (
                "ROC AUC",
                f"{auc.value:.4f} [{auc.lower:.4f}, {auc.upper:.4f}]; on the latest arrivals {later.roc_auc:.4f}",
            ),
            (
                "also",
                f"PR AUC {self.metrics.pr_auc:.4f}, log loss {self.metrics.log_loss:.4f}, "
                f"Brier {self.metrics.brier:.4f}, ECE {self.metrics.ece:.4f}",
            ),
            ("decision", f"{self.decision.outcome}: {self.decision.reason}"),
            ("champion", champion),
            ("report", f"{REPORT_FILE} of run {self.run_id}"),
        ]


class ModelTrain(Task[ModelTrainConfig, ModelTrainResult]):
    """Registers every model it trains; only a better one becomes champion."""

    name = "model-train"
    slow_imports = (
        *("sklearn.compose", "sklearn.ensemble", "sklearn.inspection", "sklearn.metrics"),
        *("mlflow.sklearn", "mlflow.models", "matplotlib.figure", "matplotlib.backends.backend_agg"),
        *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    )
    config_type = ModelTrainConfig
    help = "Train a random forest, register it, and promote it when it beats the champion."

    def run(self) -> ModelTrainResult:
        """See `Task`."""
        history = PromotionHistory(self)
        history.repair()
        champion = self.registry.champion()
        data = self.training_data(also=tuple(self.registry.input_schema(champion)) if champion else ())
        self.log.info(
            "training on %s rows, holding out %s distinct bookings", f"{len(data.train):,}", f"{len(data.holdout):,}"
        )
        self.while_spark_rests()
        model = self.fit(data.train)
        probabilities = self._score(model, data.holdout)
        metrics = evaluate(data.labels, probabilities)
        time_ordered = self._time_ordered(data)
        scores = {"challenger": probabilities}
        if champion is not None:
            scores["champion"] = self.version_scores(champion, data.holdout)
        draws = self.bootstrap(data, scores)
        bounds = intervals(metrics, draws["challenger"], self.config.comparison.confidence)
        comparison = self.comparison(data, scores, draws) if champion is not None else None
        gates = check_gates(self._gate_inputs(model, data, metrics, champion), self.config.gates)
        decision = self._if_still_champion(champion, decide(gates, comparison, self.config.comparison))

        trained = Trained(model, data, scores, metrics, bounds, time_ordered, decision)
        run_id, version = self._record(trained)
        decision = self._if_still_champion(champion, decision)
        self.log.info("version %d: %s: %s", version.number, decision.outcome, decision.reason)
        standing = None if decision.promoted else self.registry.champion()
        after = version.number if decision.promoted else (standing.number if standing else None)
        history.record(
            version, champion, after, decision, _metrics_json(trained, self._champion_bounds(comparison, draws))
        )
        if decision.promoted:
            self.registry.make_champion(version.number)
        apply_permissions(self)
        return ModelTrainResult(
            model_name=self.env.model_name,
            version=version.number,
            run_id=run_id,
            training_rows=len(data.train),
            metrics=metrics,
            auc_interval=bounds["roc_auc"],
            time_ordered=time_ordered,
            threshold=operating_threshold(self.config.costs),
            decision=decision,
            champion_version=after,
            features_version=data.features_version,
            labels_version=data.labels_version,
        )

    def _if_still_champion(self, champion: Version | None, decision: Decision) -> Decision:
        """The decision, unless another training promoted a version that this one was not compared with."""
        now = self.registry.champion() if decision.promoted else champion
        if (now.number if now else None) == (champion.number if champion else None):
            return decision
        assert now is not None, "a champion is never taken away"
        reason = f"version {now.number} became champion while this one was trained; train again to compare the two"
        return dataclasses.replace(decision, outcome="kept", reason=reason)

    def training_data(
        self,
        features_version: int | None = None,
        labels_version: int | None = None,
        also: Sequence[str] = (),
    ) -> TrainingData:
        """Features and labels at the given Delta versions (default: the newest), split by the stable hash.

        `also` names columns another model needs; those the table has not are left out.

        Raises: MissingTable; IncompatibleModel when a configured feature is not in the table;
        DataQualityError when either side of the split is empty or holds one class only.
        """
        if features_version is None:
            features_version = self.lake.version(FEATURE_TABLE.name)
        if labels_version is None:
            labels_version = self.lake.version(LABELS.name)
        features = self.lake.read(FEATURE_TABLE.name, features_version)
        missing = [name for name in self.config.features if name not in features.columns]
        if missing:
            raise IncompatibleModel(
                f"{self.lake.full_name(FEATURE_TABLE.name)} version {features_version} has no column "
                f"{', '.join(missing)}; change 'features' or run feature-table-creation"
            )
        labels = self.lake.read(LABELS.name, labels_version)
        joined = features.join(labels.select("booking_id", LABEL), "booking_id")
        limit = self.config.max_training_rows
        # Delta's log knows how many features there are; how many of them have a label costs a join.
        if features.count() > limit and (total := joined.count()) > limit:
            self.log.info("sampling about %s of %s rows", f"{limit:,}", f"{total:,}")
            joined = joined.where(sample_sql(limit / total, "training"))
        described = [
            name
            for name in dict.fromkeys((*SLICED_FEATURES, *also))
            if name not in self.config.features and name in features.columns
        ]
        columns = ["booking_id", *self.config.features, *described, FEATURE_KEY, "arrival_date", LABEL]
        # The driver holds at most max_training_rows; the order decides the forest, so it is fixed.
        frame = to_pandas(joined.select(*columns)).sort_values("booking_id", kind="stable").reset_index(drop=True)
        if frame[list(self.config.features)].isna().any(axis=None):
            raise DataQualityError(f"{self.lake.full_name(FEATURE_TABLE.name)} has empty feature values")
        mask = holdout_mask(frame[FEATURE_KEY].to_numpy(), self.config.holdout.fraction, self.config.holdout.salt)
        train = frame[~mask].reset_index(drop=True)
        holdout = one_row_each(frame[mask], FEATURE_KEY, "booking_id")
        for name, part in (("training", train), ("holdout", holdout)):
            if part[LABEL].nunique() < 2:
                raise DataQualityError(
                    f"the {name} rows ({len(part)}) hold fewer than two classes; more labelled bookings are needed"
                )
        return TrainingData(train, holdout, features_version, labels_version)

    def fit(self, train: pd.DataFrame) -> Pipeline:
        """The configured pipeline, fitted."""
        return fit(self.config.forest, as_model_input(train, self.config.features), train[LABEL].to_numpy())

    def _score(self, model: Any, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        return cancellation_probability(model, as_model_input(rows, self.config.features))

    def _time_ordered(self, data: TrainingData) -> Metrics:
        """The same pipeline trained on earlier arrivals and measured on later ones: what a change of season costs."""
        frame = pd.concat([data.train, data.holdout], ignore_index=True)
        later = later_mask(frame["arrival_date"], self.config.holdout.fraction)
        earlier, test = frame[~later], frame[later]
        if earlier[LABEL].nunique() < 2 or test[LABEL].nunique() < 2:
            return evaluate(np.zeros(0), np.zeros(0))
        # A twin on both sides would be graded on its own answer.
        test = test[~test[FEATURE_KEY].isin(set(earlier[FEATURE_KEY]))]
        test = one_row_each(test, FEATURE_KEY, "booking_id")
        return evaluate(test[LABEL].to_numpy(), self._score(self.fit(earlier), test))

    def bootstrap(self, data: TrainingData, scores: Scores) -> dict[str, Draws]:
        """Every metric of each score over the same resamples of the holdout; NaN when a score is not a number."""
        rule = self.config.comparison
        usable = {name: np.nan_to_num(score, nan=0.5) for name, score in scores.items()}
        draws = bootstrap(data.labels, usable, samples=rule.bootstrap_samples, seed=rule.bootstrap_seed)
        for name, score in scores.items():
            if not np.isfinite(score).all():
                draws[name] = {metric: np.full_like(values, np.nan) for metric, values in draws[name].items()}
        return draws

    def comparison(self, data: TrainingData, scores: Scores, draws: Mapping[str, Draws]) -> Comparison:
        """Champion against challenger on the same holdout and the same resamples of it."""
        challenger, champion = (evaluate(data.labels, scores[name]) for name in ("challenger", "champion"))
        improvement = interval(
            challenger.roc_auc - champion.roc_auc,
            draws["challenger"]["roc_auc"] - draws["champion"]["roc_auc"],
            self.config.comparison.confidence,
        )
        return Comparison(challenger, champion, improvement)

    def _champion_bounds(self, comparison: Comparison | None, draws: Mapping[str, Draws]) -> dict[str, Interval]:
        if comparison is None:
            return {}
        return intervals(comparison.champion, draws["champion"], self.config.comparison.confidence)

    def version_scores(self, version: Version, holdout: pd.DataFrame) -> npt.NDArray[np.float64]:
        """A registered version's probabilities for the holdout; NaN when the holdout lacks one of its inputs."""
        schema = self.registry.input_schema(version)
        missing = [name for name in schema if name not in holdout.columns]
        if missing:
            # Without its inputs it can't be judged here; the schema gate names the difference.
            self.log.warning("version %d needs %s, which this training has not", version.number, ", ".join(missing))
            return np.full(len(holdout), np.nan)
        return cancellation_probability(self.registry.load(version), as_model_input(holdout, list(schema)))

    def _gate_inputs(
        self, model: Pipeline, data: TrainingData, metrics: Metrics, champion: Version | None
    ) -> GateInputs:
        names = self.config.features
        inputs = as_model_input(data.train, names)
        seen = profile(data.train, names, self.config.ranges)
        base_rate = float(data.train[LABEL].mean())
        earlier = champion or next(iter(reversed(self.registry.versions())), None)
        rows = earlier.tags.get(TRAINING_ROWS_TAG) if earlier else None
        return GateInputs(
            metrics=metrics,
            dummy_roc_auc=evaluate(data.labels, np.full(len(data.labels), base_rate)).roc_auc,
            training_rows=len(data.train),
            last_training_rows=int(rows) if rows else None,
            single_feature_auc=single_feature_auc(inputs, data.train[LABEL].to_numpy()),
            importance=importance_by_feature(model, names),
            constant_features=seen.constant,
            out_of_range=seen.out_of_range,
            schema={name: _mlflow_type(inputs[name]) for name in names},
            champion_schema=self.registry.input_schema(champion) if champion else None,
        )

    def _record(self, trained: Trained) -> tuple[str, Version]:
        """Everything that is needed to judge the model, and to train it again, with MLflow."""
        config, data, labels = self.config, trained.data, trained.data.labels
        threshold = operating_threshold(config.costs)
        tags = {
            "git_commit": git_commit(),
            "environment": self.env.environment,
            FEATURES_VERSION_TAG: str(data.features_version),
            LABELS_VERSION_TAG: str(data.labels_version),
            TRAINING_ROWS_TAG: str(len(data.train)),
            REFERENCE_ROWS_TAG: str(min(len(data.train), config.max_reference_rows)),
            # MLflow shows this text on the run's own page.
            "mlflow.note.content": f"{trained.decision.outcome}: {trained.decision.reason}\n\nReport: `{REPORT_FILE}`.",
        }
        probabilities = trained.scores["challenger"]
        metrics = {
            **{f"holdout_{name}": value for name, value in trained.metrics.as_dict().items()},
            **{f"time_ordered_{name}": value for name, value in trained.time_ordered.as_dict().items()},
            **{f"holdout_{name}_lower": bound.lower for name, bound in trained.bounds.items()},
            **{f"holdout_{name}_upper": bound.upper for name, bound in trained.bounds.items()},
            "holdout_mean_cost": mean_cost(labels, probabilities, threshold, config.costs),
            "holdout_mean_cost_never_acting": mean_cost(labels, probabilities, 2.0, config.costs),
            "holdout_mean_cost_always_acting": mean_cost(labels, probabilities, -1.0, config.costs),
        }
        params = {f"forest.{field}": value for field, value in dataclasses.asdict(config.forest).items()}
        params |= {f"holdout.{field}": value for field, value in dataclasses.asdict(config.holdout).items()}
        params |= {"max_training_rows": config.max_training_rows, "threshold": threshold, **tags}
        inputs = as_model_input(data.holdout, config.features)
        with self.registry.run(f"{self.env.environment} model-train", tags) as run_id:
            self.registry.log_metrics(metrics, params)
            self.registry.log_files(self._files(trained, inputs, threshold, tags))
            example = inputs.head(5)
            metadata = {"threshold": threshold, **tags}
            self.registry.log_model(trained.model, example, trained.model.predict_proba(example), metadata)
        return run_id, self.registry.register(run_id, tags)

    def _files(
        self, trained: Trained, inputs: pd.DataFrame, threshold: float, tags: Mapping[str, str]
    ) -> dict[str, str | bytes]:
        """The run's artifacts beside the model: configuration, decision, plots and the report."""
        labels, holdout = trained.data.labels, trained.data.holdout
        shown = {name: score for name, score in trained.scores.items() if np.isfinite(score).all()}
        probabilities = trained.scores["challenger"]
        shuffled = permutation_importance(trained.model, inputs, labels, seed=self.config.forest.seed)
        pictures = {
            "roc": plots.roc(labels, shown),
            "precision_recall": plots.precision_recall(labels, shown),
            "calibration": plots.calibration(labels, shown),
            "scores": plots.score_distribution(labels, probabilities, threshold),
            "importance": plots.importance(shuffled),
        }
        comparison = trained.decision.comparison
        facts = {
            "Registered model": self.env.model_name,
            "Training rows": f"{len(trained.data.train):,}",
            "Holdout": f"{len(holdout):,} distinct bookings; equal bookings are never on both sides",
            "Features": ", ".join(self.config.features),
            "Forest": ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(self.config.forest).items()),
            "Delta versions": f"features {trained.data.features_version}, labels {trained.data.labels_version}",
            "Git commit": tags["git_commit"],
        }
        page = model_report.ReportData(
            title=f"{self.env.model_name}: a challenger of {self.clock():%Y-%m-%d}",
            decision=trained.decision,
            metrics=trained.metrics,
            intervals=trained.bounds,
            champion=comparison.champion if comparison else None,
            time_ordered=trained.time_ordered,
            plain=model_report.in_plain_words(labels, probabilities, threshold),
            slices=slices(holdout, labels, probabilities),
            plots=pictures,
            facts=facts,
        )
        return {
            CONFIG_FILE: json.dumps(_public(dataclasses.asdict(self.config)), indent=2, default=str),
            "decision.json": json.dumps(dataclasses.asdict(trained.decision), indent=2, default=str),
            REPORT_FILE: model_report.render(page),
            REFERENCE_FILE: reference_file(
                trained.data.train, self.config.features, self.config.max_reference_rows, self.config.forest.seed
            ),
            **{f"plots/{name}.png": png for name, png in pictures.items()},
        }


def _mlflow_type(column: pd.Series) -> str:
    return "double" if pd.api.types.is_numeric_dtype(column) else "string"


def _public(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without values whose key says they are secret."""
    return {
        key: "(hidden)" if _SECRET_WORDS.search(key) else _public(value) if isinstance(value, dict) else value
        for key, value in tree.items()
    }


def _metrics_json(trained: Trained, champion_bounds: Mapping[str, Interval]) -> str:
    """Every metric of both models with its interval, as the promotions table keeps them."""

    def described(metrics: Metrics, bounds: Mapping[str, Interval]) -> dict[str, Any]:
        return {
            name: [value, bounds[name].lower, bounds[name].upper] if name in bounds else value
            for name, value in metrics.as_dict().items()
        }

    content: dict[str, Any] = {
        "challenger": described(trained.metrics, trained.bounds),
        "challenger_time_ordered": trained.time_ordered.as_dict(),
    }
    comparison = trained.decision.comparison
    if comparison:
        content["champion"] = described(comparison.champion, champion_bounds)
        content["improvement_roc_auc"] = dataclasses.asdict(comparison.improvement)
    return json.dumps(content)
