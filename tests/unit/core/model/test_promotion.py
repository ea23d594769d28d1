from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.core.model.metrics import Interval, Metrics
from booking_mlops.core.model.promotion import (
    Comparison,
    ComparisonRule,
    GateInputs,
    Gates,
    check_gates,
    decide,
    remedy,
)

GOOD = Metrics(roc_auc=0.9, pr_auc=0.8, log_loss=0.3, brier=0.1, ece=0.01, base_rate=0.3, rows=5000)
INPUTS = GateInputs(
    metrics=GOOD,
    as_of_roc_auc=0.85,
    dummy_roc_auc=0.5,
    training_rows=20_000,
    last_training_rows=None,
    single_feature_auc={"lead_time": 0.757},
    importance={"lead_time": 0.42},
    constant_features=(),
    out_of_range={"average_price": 0.0},
    schema={"lead_time": "double"},
    champion_schema=None,
)


def compared(improvement: Interval, *, log_loss: float = 0.3) -> Comparison:
    return Comparison(replace(GOOD, log_loss=log_loss), GOOD, improvement)


def test_the_first_model_that_passes_the_gates_becomes_champion() -> None:
    decision = decide(check_gates(INPUTS, Gates()), None, ComparisonRule())
    assert decision.promoted
    assert decision.reason == "first model to pass the gates"


@pytest.mark.parametrize(
    ("change", "gate", "reason"),
    [
        ({"metrics": replace(GOOD, roc_auc=0.51)}, "min_roc_auc", "0.51"),
        ({"metrics": replace(GOOD, roc_auc=float("nan"))}, "min_roc_auc", "nan"),
        ({"as_of_roc_auc": 0.6}, "min_as_of_roc_auc", "0.6000 on bookings open on a past day, below 0.65 by 0.05"),
        ({"metrics": replace(GOOD, rows=100)}, "min_holdout_rows", "100 distinct holdout rows, below 2000 by 1900"),
        ({"metrics": replace(GOOD, ece=0.2)}, "max_calibration_error", "0.2, above 0.06 by 0.14"),
        ({"metrics": replace(GOOD, ece=float("nan"))}, "max_calibration_error", "nan"),
        ({"dummy_roc_auc": 0.75}, "beats_dummy", "0.15"),
        ({"last_training_rows": 40_000}, "rows_against_last", "20000 training rows against 40000"),
        ({"single_feature_auc": {"a": 0.6, "leak": 0.94}}, "max_single_feature_auc", "leak"),
        ({"importance": {"a": 0.3, "leak": 0.7}}, "max_importance", "leak"),
        ({"constant_features": ("lead_time",)}, "no_constant_feature", "constant: lead_time"),
        ({"out_of_range": {"average_price": 0.9}}, "feature_ranges", "average_price"),
        ({"champion_schema": {"lead_time": "double", "p_c": "double"}}, "schema_equal", "p_c"),
        ({"champion_schema": {"lead_time": "string"}}, "schema_equal", "lead_time"),
    ],
)
def test_each_gate_rejects_with_its_name_and_reason(change: dict[str, object], gate: str, reason: str) -> None:
    results = check_gates(replace(INPUTS, **change), Gates())  # type: ignore[arg-type]
    assert gate in [one.name for one in results if not one.passed]
    decision = decide(results, compared(Interval(0.1, 0.05, 0.2)), ComparisonRule())
    assert decision.outcome == "rejected"
    assert gate in decision.reason
    assert reason in decision.reason


def test_gates_pass_at_their_limit() -> None:
    limits = Gates()
    at_limit = replace(
        INPUTS,
        metrics=replace(GOOD, roc_auc=limits.min_roc_auc, ece=limits.max_calibration_error, rows=2000),
        importance={"a": limits.max_importance},
        last_training_rows=25_000,
    )
    assert all(gate.passed for gate in check_gates(at_limit, limits))


def test_a_changed_schema_and_a_constant_feature_can_be_allowed() -> None:
    odd = replace(INPUTS, constant_features=("lead_time",), champion_schema={"p_c": "double"})
    allowed = Gates(allow_constant_features=True, allow_schema_change=True)
    assert [gate.name for gate in check_gates(odd, Gates()) if not gate.passed] == [
        "no_constant_feature",
        "schema_equal",
    ]
    assert all(gate.passed for gate in check_gates(odd, allowed))


def test_nothing_to_check_passes() -> None:
    results = check_gates(replace(INPUTS, importance={}, out_of_range={}, as_of_roc_auc=float("nan")), Gates())
    assert all(gate.passed for gate in results)


@pytest.mark.parametrize(
    ("comparison", "outcome", "reason"),
    [
        (compared(Interval(0.01, 0.004, 0.016)), "promoted", "better than the champion"),
        (compared(Interval(0.0, 0.0, 0.0)), "kept", "a tie"),
        (compared(Interval(0.01, -0.001, 0.02)), "kept", "lower bound not above 0"),
        (compared(Interval(0.01, 0.0, 0.02)), "kept", "lower bound not above 0"),
        (compared(Interval(-0.01, -0.02, -0.001)), "kept", "lower bound"),
        (compared(Interval(0.01, float("nan"), 0.02)), "kept", "no usable number"),
        (compared(Interval(float("nan"), 0.01, 0.02)), "kept", "no usable number"),
        (compared(Interval(0.01, 0.004, 0.016), log_loss=0.31), "kept", "log loss got worse"),
        (compared(Interval(0.01, 0.004, 0.016), log_loss=float("nan")), "kept", "no usable number"),
    ],
)
def test_only_a_better_model_is_promoted(comparison: Comparison, outcome: str, reason: str) -> None:
    decision = decide(check_gates(INPUTS, Gates()), comparison, ComparisonRule())
    assert decision.outcome == outcome
    assert reason in decision.reason


@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(0, 0.05))
def test_no_number_whatever_promotes_a_model_that_is_not_better(
    value: float, lower: float, log_loss: float, minimum: float
) -> None:
    rule = ComparisonRule(min_improvement=minimum)
    decision = decide((), compared(Interval(value, lower, 1.0), log_loss=log_loss), rule)
    better = math.isfinite(value) and math.isfinite(lower) and lower > minimum and log_loss <= GOOD.log_loss
    assert decision.promoted == (better and math.isfinite(log_loss))


def test_each_gate_says_what_can_be_done_when_it_refuses() -> None:
    limits = Gates()
    for gate in check_gates(INPUTS, limits):
        setting, value = remedy(gate.name).partition("booking-mlops model-train --set gates.")[2].split("=")
        assert value == ("true" if isinstance(getattr(limits, setting), bool) else "…"), gate.name
    assert remedy("a gate of another release") == ""


def test_only_a_usable_comparison_that_keeps_the_champion_is_a_tie() -> None:
    gates = check_gates(INPUTS, Gates())
    nan = float("nan")
    cases = [
        (compared(Interval(0.0, -0.01, 0.01)), True),
        (compared(Interval(0.05, 0.04, 0.06)), False),
        (compared(Interval(nan, nan, nan)), False),
        (None, False),
    ]
    for comparison, tied in cases:
        assert decide(gates, comparison, ComparisonRule()).tied == tied
    refused = decide(check_gates(replace(INPUTS, as_of_roc_auc=0.1), Gates()), cases[0][0], ComparisonRule())
    assert not refused.tied
    assert [gate.name for gate in refused.refusals] == ["min_as_of_roc_auc"]
