"""Every family of models through the whole life of a version, and compared with another family's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.model.families import family_kinds
from booking_mlops.core.model.scoring import as_model_input
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Cli, Environment
from tests.spark.conftest import FORTY, make_task, registry_of

SMALL = {
    "random_forest": ["model.n_estimators=20"],
    "gradient_boosting": ["model.kind=gradient_boosting", "model.max_iter=60"],
}
# Boosting's importance is of another kind than a forest's, and the holdout of a test is small.
LENIENT = ("comparison.bootstrap_samples=200", "gates.max_importance=1")


def test_every_family_is_tested() -> None:
    assert set(SMALL) == set(family_kinds())


@pytest.mark.parametrize("kind", SMALL)
def test_a_family_is_trained_scored_explained_and_reproduced(
    kind: str, spark: Any, featured: Environment, booking_mlops: Cli
) -> None:
    result = make_task(ModelTrain, spark, featured, *SMALL[kind], *LENIENT).run()
    assert result.decision.promoted, result.decision.reason
    registry = registry_of(featured)
    assert registry.params(result.run_id)["model.kind"] == kind
    page = registry.read_file(result.run_id, "report.html")
    assert f"kind {kind}" in page
    assert page.count("<img") == 5
    make_task(ModelInferenceBatch, spark, featured).run()
    scored = (
        spark.table(featured.table("predictions"))
        .join(spark.table(featured.table("features")), "booking_id")
        .toPandas()
    )
    model = registry.load(registry.require_champion())
    expected = model.predict_proba(as_model_input(scored, DEFAULT_FEATURES))[:, 1]
    np.testing.assert_allclose(scored["cancellation_probability"], expected, atol=1e-12)
    again = booking_mlops("model", "reproduce", "1", "--env-file", featured.file)
    assert again.code == 0, again.err
    assert "identical on" in again.out


@pytest.mark.parametrize("kind", [kind for kind in SMALL if kind != "random_forest"])
def test_a_challenger_of_another_family_is_compared_with_the_champion(
    kind: str, spark: Any, featured: Environment, booking_mlops: Cli
) -> None:
    first = make_task(ModelTrain, spark, featured, *FORTY).run()
    second = make_task(ModelTrain, spark, featured, *SMALL[kind], *LENIENT, day=2).run()
    assert first.decision.promoted
    comparison = second.decision.comparison
    assert comparison is not None
    assert comparison.champion == first.metrics
    assert np.isfinite(comparison.improvement.lower)
    assert second.decision.outcome in ("promoted", "kept")
    outcome = booking_mlops("model", "compare", "2", "1", "--env-file", featured.file)
    assert outcome.code == 0, outcome.err
    assert f"{second.metrics.roc_auc:.4f}" in outcome.out
