"""`model-train`: train a challenger, judge it, and promote it only when it is better than the champion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.config.checks import require
from booking_mlops.config.environment import EnvConfig
from booking_mlops.config.recorded import record
from booking_mlops.core.bookings.quality import profile
from booking_mlops.core.bookings.schema import LABEL
from booking_mlops.core.model.backtest import Backtest, BacktestRule, Score, backtest
from booking_mlops.core.model.metrics import (
    Costs,
    Interval,
    Metrics,
    evaluate,
    intervals,
    operating_threshold,
    single_feature_auc,
)
from booking_mlops.core.model.promotion import (
    ComparisonRule,
    Decision,
    GateInputs,
    Gates,
    PromotionPolicy,
    check_gates,
    decide,
    remedy,
    under,
)
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.errors import RegistryError
from booking_mlops.io.registry import CONFIRMED_BY_TAG, TRAINING_ROWS_TAG, Version
from booking_mlops.services.comparison import champion_intervals, compare_scores, resampled_metrics, version_scores
from booking_mlops.services.drift import DriftConfig, known_bookings, load_baseline
from booking_mlops.services.permissions import apply_model_permissions
from booking_mlops.services.promotions import PromotionHistory, approval_command
from booking_mlops.services.retraining import has_alarm
from booking_mlops.services.training_data import TrainingData, TrainingRecipe, read_training_data
from booking_mlops.services.training_record import REPORT_FILE, Trained, TrainingRecord, metrics_json
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class ModelTrainConfig(TrainingRecipe):
    """`model-train`: the recipe of the model, the gates it must pass, and when it replaces the champion, and how.

    At most `max_reference_rows` of the bookings known are stored with the model: what new ones are compared with when
    drift is looked for. `costs` decide the operating threshold, `backtest` which days are replayed.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {**TrainingRecipe.RENAMED, "ranges": "env.ranges"}

    env: EnvConfig
    max_reference_rows: int = 100_000
    gates: Gates = field(default_factory=Gates)
    comparison: ComparisonRule = field(default_factory=ComparisonRule)
    promotion: PromotionPolicy = field(default_factory=PromotionPolicy)
    costs: Costs = field(default_factory=Costs)
    backtest: BacktestRule = field(default_factory=BacktestRule)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_reference_rows > 0, f"max_reference_rows: {self.max_reference_rows} is not above 0")
        require(min(self.costs.missed_cancellation, self.costs.needless_intervention) > 0, "costs: must be above 0")
        require(0.5 < self.comparison.confidence < 1.0, "comparison.confidence: must be above .5 and below 1")
        require(self.comparison.bootstrap_samples >= 100, "comparison.bootstrap_samples: must be at least 100")


@dataclass(frozen=True)
class ModelTrainResult(Result):
    """The new version, how it did, and what was decided about it."""

    model_name: str
    version: int
    run_id: str
    training_rows: int
    metrics: Metrics
    all_rows: Metrics
    """The metrics on every holdout row; the gates go by `metrics`, in which equal bookings count once."""
    auc_interval: Interval
    backtest: Backtest
    threshold: float
    decision: Decision
    champion_version: int | None
    features_version: int
    labels_version: int

    @property
    def page(self) -> tuple[str, str]:
        """See `Result`."""
        return self.run_id, REPORT_FILE

    @property
    def _waits(self) -> bool:
        return self.decision.outcome == "waiting"

    def summary(self) -> list[tuple[str, str]]:
        """Return version, metrics, decision, what refused it if anything did, and champion."""
        metrics, auc, every = self.metrics, self.auc_interval, self.all_rows
        refused = [
            line
            for gate in self.decision.refusals
            for line in (("refused by", f"{gate.name}: {gate.reason}"), ("", remedy(gate.name)))
        ]
        return [
            ("model", f"{self.model_name} version {self.version}, trained on {self.training_rows:,} rows"),
            ("holdout", f"{metrics.rows:,} distinct bookings, twins kept out of training"),
            ("ROC AUC", f"{auc.value:.4f} [{auc.lower:.4f}, {auc.upper:.4f}]; the gates go by this one"),
            ("", f"{every.roc_auc:.4f} on all {every.rows:,} holdout rows, equal bookings as often as they are there"),
            (
                "also",
                f"PR AUC {metrics.pr_auc:.4f}, log loss {metrics.log_loss:.4f}, "
                f"Brier {metrics.brier:.4f}, ECE {metrics.ece:.4f}",
            ),
            ("live use", self.backtest.ranking_in_words()),
            ("", self.backtest.in_words()),
            ("decision", f"{self.decision.outcome}: {self.decision.reason}"),
            *refused,
            ("champion", f"version {self.champion_version}" if self.champion_version else "none"),
            *([("next", approval_command(self.version))] if self._waits else []),
            ("report", f"{REPORT_FILE} of run {self.run_id}"),
        ]


class ModelTrain(Task[ModelTrainConfig, ModelTrainResult]):
    """Registers every model it trains; only a better one becomes champion."""

    name = "model-train"
    config_type = ModelTrainConfig
    help = "Train a model, register it, and promote it when it beats the champion."

    def run(self) -> ModelTrainResult:
        """Train, evaluate, decide, record, and carry the decision out.

        Raises: MissingTable, IncompatibleModel, DataQualityError, RegistryError, WriteFailed.
        """
        registry, history = self.session.registry, PromotionHistory(self.session)
        history.repair()
        champion = registry.champion()
        also = tuple(registry.input_schema(champion)) if champion else ()
        data = read_training_data(self.session.tables, self.config, also=also)
        self.log.info(
            "training on %s rows, holding out %s distinct bookings", f"{len(data.train):,}", f"{len(data.holdout):,}"
        )
        trained, champion_bounds = self._train(data, champion)
        run_id, version, known = self._record(trained, also)
        decision = self._unless_overtaken(champion, trained.decision)
        self.log.info("version %d: %s: %s", version.number, decision.outcome, decision.reason)
        standing = None if decision.promoted else registry.champion()
        after = version.number if decision.promoted else (standing.number if standing else None)
        history.record(version, champion, after, decision, metrics_json(trained, champion_bounds))
        if decision.promoted:
            registry.make_champion(version.number)
        else:
            if champion is not None and decision.tied and after == champion.number:
                self._confirm(champion, version, known)
            if (waiting := history.waiting()) is not None:
                # The version before this one may be waiting still.
                registry.make_challenger(waiting)
        apply_model_permissions(self.session)
        return ModelTrainResult(
            model_name=self.session.env.model_name,
            version=version.number,
            run_id=run_id,
            training_rows=len(data.train),
            metrics=trained.metrics,
            all_rows=trained.all_rows,
            auc_interval=trained.bounds["roc_auc"],
            backtest=trained.backtest,
            threshold=operating_threshold(self.config.costs),
            decision=decision,
            champion_version=after,
            features_version=data.features_version,
            labels_version=data.labels_version,
        )

    def _train(self, data: TrainingData, champion: Version | None) -> tuple[Trained, dict[str, Interval]]:
        """Fit a challenger, measure it beside the champion and decide; also return the champion's intervals."""
        rule = self.config.comparison
        model = self.config.fit(data.train)
        scores = {"challenger": self._score(model, data.holdout)}
        metrics = evaluate(data.labels, scores["challenger"])
        all_rows = self._on_all_rows(model, data, scores["challenger"])
        replayed = backtest(data.everything, self.config.backtest, self._fitted)
        if champion is not None:
            scores["champion"] = version_scores(self.session.registry, champion, data.holdout)
        draws = resampled_metrics(data.labels, scores, rule)
        comparison = compare_scores(data.labels, scores, draws, rule) if champion is not None else None
        gates = check_gates(self._gate_inputs(model, data, metrics, replayed, champion), self.config.gates)
        decision = under(self.config.promotion, self._unless_overtaken(champion, decide(gates, comparison, rule)))
        bounds = intervals(metrics, draws["challenger"], rule.confidence)
        trained = Trained(model, data, scores, metrics, all_rows, bounds, replayed, decision)
        return trained, champion_intervals(comparison, draws, rule)

    def _on_all_rows(self, model: Pipeline, data: TrainingData, distinct: npt.NDArray[np.float64]) -> Metrics:
        """Return the metrics on the holdout with its twins, of which `distinct` are the scores without them."""
        twins = data.holdout_twins
        if twins.empty:
            return evaluate(data.labels, distinct)
        labels = np.concatenate([data.labels, twins[LABEL].to_numpy(dtype=np.int64)])
        return evaluate(labels, np.concatenate([distinct, self._score(model, twins)]))

    def _confirm(self, champion: Version, by: Version, known: pd.DataFrame) -> None:
        """Say with the champion which training found it no worse: what that one knew is no news any more.

        Not before model-monitor could judge what is new, or has found an alarm: a training every week would leave it
        nothing to judge.
        """
        try:
            baseline = load_baseline(self.session.registry, champion)
        except RegistryError as error:
            self.log.warning("%s; what version %d knows takes its place", error, by.number)
            baseline = None
        if baseline is not None:
            enough = baseline.new_among(known) >= DriftConfig().min_rows
            if self.session.as_of < baseline.as_of or not (enough or has_alarm(self.session, champion, baseline)):
                return
        self.session.registry.set_tag(champion.number, CONFIRMED_BY_TAG, str(by.number))

    def _record(self, trained: Trained, also: Sequence[str]) -> tuple[str, Version, pd.DataFrame]:
        """Write the training to MLflow; `also` are the champion's inputs, whose drift is looked for.

        Returns the run's id, the version, and the bookings that are known to it.
        """
        data = trained.data
        known = known_bookings(
            self.session.tables,
            data.features_version,
            self.session.as_of,
            data.everything,
            [name for name in dict.fromkeys((*self.config.inputs, *also)) if name in data.train.columns],
            self.config.max_reference_rows,
        )
        env = dataclasses.replace(self.config.env, as_of=self.session.as_of)
        writer = TrainingRecord(
            self.session,
            self.config,
            self.config.costs,
            config=record(dataclasses.replace(self.config, env=env)),
            known=known,
        )
        return *writer.write(trained), known

    def _unless_overtaken(self, champion: Version | None, decision: Decision) -> Decision:
        """Return the decision, or `kept` when another training has promoted a version since `champion` was read."""
        now = self.session.registry.champion() if decision.promoted else champion
        if (now.number if now else None) == (champion.number if champion else None):
            return decision
        assert now is not None, "a champion is never taken away"
        reason = f"version {now.number} became champion while this one was trained; train again to compare the two"
        return dataclasses.replace(decision, outcome="kept", reason=reason)

    def _score(self, model: Pipeline, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
        return cancellation_probability(model, as_model_input(rows, self.config.inputs))

    def _fitted(self, rows: pd.DataFrame) -> Score:
        """Return the scores of the same recipe fitted to other rows."""
        model = self.config.fit(rows)
        return lambda others: self._score(model, others)

    def _gate_inputs(
        self, model: Pipeline, data: TrainingData, metrics: Metrics, replayed: Backtest, champion: Version | None
    ) -> GateInputs:
        registry, names = self.session.registry, self.config.inputs
        inputs, labels = as_model_input(data.train, names), data.train[LABEL].to_numpy()
        seen = profile(data.train, names, self.session.env.all_ranges)
        earlier = champion or next(iter(reversed(registry.versions())), None)
        rows = earlier.tags.get(TRAINING_ROWS_TAG) if earlier else None
        return GateInputs(
            metrics=metrics,
            as_of_roc_auc=replayed.roc_auc,
            dummy_roc_auc=evaluate(data.labels, np.full(len(data.labels), float(labels.mean()))).roc_auc,
            training_rows=len(data.train),
            last_training_rows=int(rows) if rows else None,
            single_feature_auc=single_feature_auc(inputs, labels),
            importance=self.config.model.importance(model, inputs, labels),
            constant_features=seen.constant,
            out_of_range=seen.out_of_range,
            schema={name: _kind(inputs[name]) for name in names},
            champion_schema=_kinds(registry.input_schema(champion)) if champion else None,
        )


def _kind(column: pd.Series) -> str:
    return "number" if pd.api.types.is_numeric_dtype(column) else "string"


def _kinds(schema: Mapping[str, str]) -> dict[str, str]:
    """Return the kind of each input: an earlier release declared every number a fraction, which changes nothing."""
    return {name: "string" if declared == "string" else "number" for name, declared in schema.items()}
