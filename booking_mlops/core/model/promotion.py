"""The promotion rule: gates first, then champion against challenger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from booking_mlops.core.model.metrics import Interval, Metrics

Outcome = Literal["promoted", "waiting", "kept", "rejected"]


@dataclass(frozen=True)
class Gates:
    """Limits a challenger must meet before it is compared with anything.

    Probabilities and shares are fractions, areas are 0 to 1.
    """

    min_roc_auc: float = 0.80
    min_as_of_roc_auc: float = 0.65
    min_holdout_rows: int = 2_000
    max_calibration_error: float = 0.06
    min_margin_over_dummy: float = 0.20
    min_rows_against_last: float = 0.70
    max_single_feature_auc: float = 0.79
    max_importance: float = 0.50
    max_out_of_range: float = 0.01
    allow_constant_features: bool = False
    allow_schema_change: bool = False


@dataclass(frozen=True)
class ComparisonRule:
    """When a challenger beats the champion: the lower bound of the improvement in ROC AUC is above the minimum.

    `confidence` is that of one bound. The bootstrap measures the noise of the holdout, not that of the training: at
    .975 about one retraining in twenty is promoted because of its seed alone, hence the stricter default.
    """

    min_improvement: float = 0.0
    confidence: float = 0.995
    bootstrap_samples: int = 2_000
    bootstrap_seed: int = 11


@dataclass(frozen=True)
class PromotionPolicy:
    """Whether a better challenger becomes champion at once, or waits until somebody approves it."""

    approval: Literal["automatic", "required"] = "automatic"


@dataclass(frozen=True)
class GateResult:
    """The result of one gate; `value` and `limit` are text so that every gate fits the same table."""

    name: str
    passed: bool
    value: str
    limit: str
    reason: str


_TWINS = "equal bookings count once, so this may be lower than on all rows"
_REMEDIES: Mapping[str, tuple[str, str]] = {
    "min_roc_auc": ("min_roc_auc", f"more bookings or more features help; {_TWINS}"),
    "min_as_of_roc_auc": ("min_as_of_roc_auc", "more months of bookings help"),
    "min_holdout_rows": ("min_holdout_rows", "more bookings with an outcome are needed"),
    "max_calibration_error": ("max_calibration_error", "larger leaves help: model.min_samples_leaf"),
    "beats_dummy": ("min_margin_over_dummy", "do the outcomes belong to these bookings?"),
    "rows_against_last": ("min_rows_against_last", "are all bookings there? see setup-data's rejected rows"),
    "max_single_feature_auc": ("max_single_feature_auc", "does it hold what is known only afterwards? drop_features"),
    "max_importance": ("max_importance", "does it hold what is known only afterwards? drop_features"),
    "no_constant_feature": ("allow_constant_features", "leave it out: drop_features"),
    "feature_ranges": ("max_out_of_range", "env.ranges says what is possible"),
    "schema_equal": ("allow_schema_change", "the inputs are not those of the champion"),
}
"""By gate the setting of `Gates` that it goes by, and what can be done when it refuses a challenger."""


def remedy(gate: str) -> str:
    """Return what can be done about a gate that refused a challenger."""
    if gate not in _REMEDIES:
        return ""
    setting, advice = _REMEDIES[gate]
    command = f"booking-mlops model-train --set gates.{setting}="
    if setting.startswith("allow_"):
        return f"{advice}; or allow it: {command}true"
    return f"{advice}; or another limit, where this one does not suit the hotel: {command}…"


@dataclass(frozen=True)
class GateInputs:
    """Everything the gates check; None where there is no earlier version or champion to compare with.

    `as_of_roc_auc` is the backtest's; NaN when there were too few bookings for one.
    """

    metrics: Metrics
    as_of_roc_auc: float
    dummy_roc_auc: float
    training_rows: int
    last_training_rows: int | None
    single_feature_auc: Mapping[str, float]
    importance: Mapping[str, float]
    constant_features: Sequence[str]
    out_of_range: Mapping[str, float]
    schema: Mapping[str, str]
    champion_schema: Mapping[str, str] | None


@dataclass(frozen=True)
class Comparison:
    """Champion and challenger on the same holdout. `improvement` is challenger minus champion, in ROC AUC."""

    challenger: Metrics
    champion: Metrics
    improvement: Interval

    @property
    def is_usable(self) -> bool:
        """Whether every number that decides is one."""
        improvement = self.improvement
        losses = self.challenger.log_loss, self.champion.log_loss
        return all(math.isfinite(number) for number in (improvement.value, improvement.lower, *losses))


@dataclass(frozen=True)
class Decision:
    """What happens to the challenger, and why."""

    outcome: Outcome
    reason: str
    gates: tuple[GateResult, ...] = ()
    comparison: Comparison | None = field(default=None)

    @property
    def refusals(self) -> tuple[GateResult, ...]:
        """The gates that refused the challenger."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def tied(self) -> bool:
        """Whether the challenger was compared with the champion and was not better."""
        return self.outcome == "kept" and self.comparison is not None and self.comparison.is_usable

    @property
    def promoted(self) -> bool:
        """Return whether the challenger becomes champion."""
        return self.outcome == "promoted"


def _at_least(name: str, value: float, limit: float, what: str) -> GateResult:
    passed = value >= limit
    missing = f"{what}, below {limit:.4g} by {limit - value:.4g}"
    return GateResult(name, passed, f"{value:.4g}", f">= {limit:.4g}", what if passed else missing)


def _worst_at_most(name: str, values: Mapping[str, float], limit: float, what: str) -> GateResult:
    if not values:
        return GateResult(name, True, "none", f"<= {limit:.4g}", f"no {what} to check")
    worst = max(values, key=lambda key: math.inf if math.isnan(values[key]) else values[key])
    value = values[worst]
    passed = value <= limit
    reason = f"{what} of {worst} is {value:.4g}" + ("" if passed else f", above {limit:.4g} by {value - limit:.4g}")
    return GateResult(name, passed, f"{value:.4g}", f"<= {limit:.4g}", reason)


def _constant_gate(inputs: GateInputs, *, allowed: bool) -> GateResult:
    constant = ", ".join(inputs.constant_features)
    reason = f"constant: {constant}" if constant else "every feature varies"
    limit = "any" if allowed else "none"
    return GateResult("no_constant_feature", allowed or not constant, constant or "none", limit, reason)


def _schema_gate(inputs: GateInputs, *, allowed: bool) -> GateResult:
    if inputs.champion_schema is None:
        return GateResult("schema_equal", True, "no champion", "equal", "no champion to be equal to")
    differing = sorted(
        name
        for name in {*inputs.schema, *inputs.champion_schema}
        if inputs.schema.get(name) != inputs.champion_schema.get(name)
    )
    reason = (
        f"inputs differ from the champion's in {', '.join(differing)}" if differing else "inputs are the champion's"
    )
    limit = "may differ" if allowed else "equal"
    return GateResult("schema_equal", allowed or not differing, f"{len(differing)} differ", limit, reason)


def _as_of_gate(inputs: GateInputs, limit: float) -> GateResult:
    value = inputs.as_of_roc_auc
    if math.isnan(value):
        return GateResult("min_as_of_roc_auc", True, "no backtest", "", "too few past bookings to replay a day")
    return _at_least("min_as_of_roc_auc", value, limit, f"ROC AUC {value:.4f} on bookings open on a past day")


def check_gates(inputs: GateInputs, gates: Gates) -> tuple[GateResult, ...]:
    """Return the result of every gate, passed or not; NaN never passes, but for a backtest that can't be made."""
    metrics = inputs.metrics
    margin = metrics.roc_auc - inputs.dummy_roc_auc
    if inputs.last_training_rows:
        share = inputs.training_rows / inputs.last_training_rows
        rows = _at_least(
            "rows_against_last",
            share,
            gates.min_rows_against_last,
            f"{inputs.training_rows} training rows against {inputs.last_training_rows} of the last version",
        )
    else:
        rows = GateResult("rows_against_last", True, "no version", "", "no earlier version to compare with")
    return (
        _at_least("min_roc_auc", metrics.roc_auc, gates.min_roc_auc, f"ROC AUC {metrics.roc_auc:.4f}"),
        _as_of_gate(inputs, gates.min_as_of_roc_auc),
        _at_least("min_holdout_rows", metrics.rows, gates.min_holdout_rows, f"{metrics.rows} distinct holdout rows"),
        _worst_at_most("max_calibration_error", {"the holdout": metrics.ece}, gates.max_calibration_error, "ECE"),
        _at_least("beats_dummy", margin, gates.min_margin_over_dummy, f"ROC AUC {margin:.4f} above the dummy"),
        rows,
        _worst_at_most(
            "max_single_feature_auc", inputs.single_feature_auc, gates.max_single_feature_auc, "ROC AUC alone"
        ),
        _worst_at_most("max_importance", inputs.importance, gates.max_importance, "importance"),
        _constant_gate(inputs, allowed=gates.allow_constant_features),
        _worst_at_most("feature_ranges", inputs.out_of_range, gates.max_out_of_range, "share out of range"),
        _schema_gate(inputs, allowed=gates.allow_schema_change),
    )


def decide(gates: tuple[GateResult, ...], comparison: Comparison | None, rule: ComparisonRule) -> Decision:
    """Decide whether to promote the challenger, keep the champion, or reject the challenger.

    A failed gate rejects. Without a champion the gates alone decide. Otherwise the challenger is promoted only when
    the lower bound of its improvement is above the minimum and its log loss is no worse; a tie or a NaN keeps the
    champion.
    """
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        reason = "; ".join(f"{gate.name}: {gate.reason}" for gate in failed)
        return Decision("rejected", reason, gates, comparison)
    if comparison is None:
        return Decision("promoted", "first model to pass the gates", gates)
    improvement = comparison.improvement
    measured = (
        f"ROC AUC {comparison.challenger.roc_auc:.4f} against {comparison.champion.roc_auc:.4f}, "
        f"improvement {improvement.value:+.4f} [{improvement.lower:+.4f}, {improvement.upper:+.4f}]"
    )
    if not comparison.is_usable:
        return Decision("kept", f"the comparison gave no usable number ({measured})", gates, comparison)
    if improvement.lower <= rule.min_improvement:
        why = "a tie" if improvement.value == 0 else f"lower bound not above {rule.min_improvement:g}"
        return Decision("kept", f"{why}: {measured}", gates, comparison)
    if comparison.challenger.log_loss > comparison.champion.log_loss:
        losses = f"{comparison.challenger.log_loss:.4f} against {comparison.champion.log_loss:.4f}"
        return Decision("kept", f"log loss got worse, {losses}: {measured}", gates, comparison)
    return Decision("promoted", f"better than the champion: {measured}", gates, comparison)


def under(policy: PromotionPolicy, decision: Decision) -> Decision:
    """Return the decision as the policy has it: a promotion that needs approval waits for it."""
    if not decision.promoted or policy.approval == "automatic":
        return decision
    return replace(decision, outcome="waiting", reason=f"waits for approval: {decision.reason}")
