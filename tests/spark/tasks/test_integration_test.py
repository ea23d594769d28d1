"""The integration test itself must be able to fail: each promise is broken once."""

from __future__ import annotations

from typing import Any

import pytest

from booking_mlops.errors import BrokenPromise
from booking_mlops.tasks.integration_test import IntegrationTest
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Environment
from tests.spark.conftest import Trained, broken, copy_features, make_task, registry_of
from tests.spark.tasks.test_model_train import QUICK


def test_every_promise_holds_after_the_pipeline(spark: Any, trained: Trained) -> None:
    result = make_task(IntegrationTest, spark, trained.environment).run()
    assert set(result.promises) == {promise for half in HALVES for promise in half}


# Two halves that do not touch each other's promises, so that each half shows which of them must still hold.
HALVES = [
    {
        "every booking is there once": "INSERT INTO {bookings} SELECT * FROM {bookings} LIMIT 1",
        "every label is of a booking with features": "INSERT INTO {labels} VALUES ('X', 1, DATE'2018-01-01')",
        "every certain outcome is a label": "DELETE FROM {labels} WHERE booking_id = 'INN00002'",
        "features hold no label": "ALTER TABLE {features} ADD COLUMN is_canceled INT",
        "and only once": "INSERT INTO {predictions} SELECT * FROM {predictions} LIMIT 1",
        "the champion is what the last decision says": "UPDATE {promotions} SET champion_after = 7",
    },
    {
        "every feature row is a booking": "DELETE FROM {bookings} WHERE booking_id = 'INN00002'",
        "every label is certain": "UPDATE {bookings} SET booking_status = 'Open' WHERE booking_id = 'INN00004'",
        "features were known when the booking was made": "UPDATE {features} SET booked_on = arrival_date + 1 "
        "WHERE booking_id = 'INN00003'",
        "every booking to be scored is, on the newest day": "DELETE FROM {predictions} WHERE booking_id = 'INN00002'",
        "probabilities are between 0 and 1": "UPDATE {predictions} SET cancellation_probability = 1.2 "
        "WHERE booking_id = 'INN00003'",
        "the newest scores are the champion's": "UPDATE {predictions} SET model_version = 7",
    },
]


@pytest.mark.parametrize("statements", HALVES, ids=["one half", "the other"])
def test_broken_promises_are_named_and_no_others(spark: Any, scored: Environment, statements: dict[str, str]) -> None:
    every = {promise for half in HALVES for promise in half}
    with broken(spark, scored, *statements.values()), pytest.raises(BrokenPromise) as caught:
        make_task(IntegrationTest, spark, scored).run()
    named = {promise for promise in every if promise in str(caught.value)}
    assert named == set(statements)
    assert registry_of(scored).champion() is not None


@pytest.fixture(scope="module")
def scored(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Any) -> Environment:
    """An environment with a champion and predictions, for these tests to break and mend."""
    environment = copy_features(spark, trained, tmp_path_factory.mktemp("scored"), lake)
    make_task(ModelTrain, spark, environment, *QUICK).run()
    make_task(ModelInferenceBatch, spark, environment).run()
    return environment
