"""The integration test itself must be able to fail: each promise is broken once."""

from __future__ import annotations

from typing import Any

import pytest

from booking_mlops.errors import BrokenPromise
from booking_mlops.tasks.integration_test import IntegrationTest
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Environment
from tests.spark.conftest import Trained, copy_features, make_task, registry_of
from tests.spark.test_train_and_score import QUICK


def test_every_promise_holds_after_the_pipeline(spark: Any, trained: Trained) -> None:
    result = make_task(IntegrationTest, spark, trained.environment).run()
    assert len(result.promises) == 10


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        ("INSERT INTO {bookings} SELECT * FROM {bookings} LIMIT 1", "every booking is there once"),
        ("DELETE FROM {bookings} WHERE booking_id = 'INN00002'", "every feature row is a booking"),
        ("DELETE FROM {labels} WHERE booking_id = 'INN00002'", "features and labels are of the same bookings"),
        ("UPDATE {features} SET booked_on = arrival_date + 1 WHERE booking_id = 'INN00002'", "features were known"),
        ("DELETE FROM {predictions} WHERE booking_id = 'INN00002'", "every booking is scored on the newest day"),
        ("INSERT INTO {predictions} SELECT * FROM {predictions} LIMIT 1", "and only once"),
        ("UPDATE {predictions} SET cancellation_probability = 1.2 WHERE booking_id = 'INN00002'", "between 0 and 1"),
        ("UPDATE {predictions} SET model_version = 7", "the newest scores are the champion's"),
        ("UPDATE {promotions} SET champion_after = 7", "the champion is what the last decision says"),
        ("ALTER TABLE {features} ADD COLUMN is_canceled INT", "features hold no label"),
    ],
)
def test_a_broken_promise_is_named(spark: Any, scored: Environment, statement: str, promise: str) -> None:
    names = {name: scored.table(name) for name in ("bookings", "features", "labels", "predictions", "promotions")}
    before = {name: spark.sql(f"DESCRIBE HISTORY {table}").first()["version"] for name, table in names.items()}
    spark.sql(statement.format(**names))
    try:
        with pytest.raises(BrokenPromise, match=promise):
            make_task(IntegrationTest, spark, scored).run()
    finally:
        for name, table in names.items():
            spark.sql(f"RESTORE TABLE {table} TO VERSION AS OF {before[name]}")
    assert registry_of(scored).champion() is not None


@pytest.fixture(scope="module")
def scored(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Any) -> Environment:
    """An environment with a champion and predictions, for these tests to break and mend."""
    environment = copy_features(spark, trained, tmp_path_factory.mktemp("scored"), lake)
    make_task(ModelTrain, spark, environment, *QUICK).run()
    make_task(ModelInferenceBatch, spark, environment).run()
    return environment
