"""The faults of the data study, each tried against the real task on real tables: none becomes champion."""

from __future__ import annotations

from typing import Any

import pytest

from booking_mlops.core.model.promotion import decide
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.services.comparison import compare_scores, resampled_metrics, version_scores
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Environment
from tests.spark.conftest import FORTY, Trained, broken, make_task, training_data
from tests.spark.tasks.test_model_train import champion_of


def leak(noise: int) -> str:
    """Put a copy of the label, of which `noise` percent are turned round, into a feature."""
    turned = f"IF(pmod(xxhash64(booking_id), 100) < {noise}, 1 - is_canceled, is_canceled)"
    return (
        f"MERGE INTO {{features}} f USING (SELECT booking_id, {turned} AS leak FROM {{labels}}) l "
        "ON f.booking_id = l.booking_id WHEN MATCHED THEN UPDATE SET f.special_requests = l.leak"
    )


@pytest.mark.parametrize(
    ("statement", "settings", "gate"),
    [
        (
            "UPDATE {labels} SET is_canceled = CAST(pmod(xxhash64(booking_id, 'shuffle'), 100) < 33 AS INT)",
            [],
            "min_roc_auc",
        ),
        *[(leak(noise), [], "max_single_feature_auc") for noise in (2, 10, 20)],
        ("DELETE FROM {features} WHERE pmod(xxhash64(booking_id, 'lost'), 100) < 50", [], "rows_against_last"),
        ("DELETE FROM {features} WHERE pmod(xxhash64(booking_id, 'lost'), 100) < 75", [], "rows_against_last"),
        ("UPDATE {features} SET average_price = average_price * 100", [], "feature_ranges"),
        ("UPDATE {features} SET lead_time = 0", [], "no_constant_feature"),
        ("SELECT 1", ["features=[lead_time, special_requests, market_segment_type]"], "schema_equal"),
    ],
    ids=["shuffled labels", "leak 2 %", "leak 10 %", "leak 20 %", "half lost", "three quarters lost", "price × 100",
         "constant lead time", "fewer inputs"],
)  # fmt: skip
def test_a_fault_is_rejected_by_the_gate_that_sees_it(
    spark: Any, good: Environment, statement: str, settings: list[str], gate: str
) -> None:
    with broken(spark, good, statement):
        result = make_task(ModelTrain, spark, good, *FORTY, *settings).run()
    assert result.decision.outcome == "rejected"
    failed = [one.name for one in result.decision.gates if not one.passed]
    assert gate in failed, failed
    assert champion_of(good) == 1


def test_a_shallower_forest_does_not_replace_the_champion(spark: Any, good: Environment) -> None:
    worse = make_task(ModelTrain, spark, good, "model.max_depth=8").run()
    assert worse.decision.outcome in ("kept", "rejected")
    assert champion_of(good) == 1


def test_twenty_other_seeds_do_not_replace_the_champion_by_luck(spark: Any, trained: Trained) -> None:
    task = make_task(ModelTrain, spark, trained.environment)
    data, registry, rule = training_data(task), task.session.registry, task.config.comparison
    scores = {"champion": version_scores(registry, registry.require_champion(), data.holdout)}
    promoted = []
    for seed in range(20):
        other = make_task(ModelTrain, spark, trained.environment, f"model.seed={seed}")
        model = other.config.fit(data.train)
        scores["challenger"] = cancellation_probability(model, as_model_input(data.holdout, other.config.inputs))
        comparison = compare_scores(data.labels, scores, resampled_metrics(data.labels, scores, rule), rule)
        promoted.append(decide((), comparison, rule).promoted)
    assert not any(promoted)


def test_a_model_of_all_rows_replaces_one_of_a_tenth(spark: Any, featured: Environment) -> None:
    few = make_task(ModelTrain, spark, featured, *FORTY, "max_training_rows=1200", "gates.min_holdout_rows=100",
                    "gates.max_calibration_error=1", "gates.max_single_feature_auc=1")  # fmt: skip
    assert few.run().decision.promoted
    full = make_task(ModelTrain, spark, featured, *FORTY, day=2).run()
    assert full.decision.promoted, full.decision.reason
    assert champion_of(featured) == 2


def test_a_change_of_features_that_is_allowed_is_compared_on_its_merits(spark: Any, good: Environment) -> None:
    fewer = "features=[lead_time, special_requests, market_segment_type, average_price]"
    result = make_task(
        ModelTrain, spark, good, *FORTY, fewer, "gates.allow_schema_change=true", "gates.max_importance=1"
    ).run()
    assert result.decision.outcome == "kept"
    assert result.decision.comparison is not None
    assert result.decision.comparison.champion.roc_auc > result.decision.comparison.challenger.roc_auc
    assert champion_of(good) == 1
