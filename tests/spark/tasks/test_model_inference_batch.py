"""Scoring, on real Delta tables and a real registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.bookings.tables import PREDICTIONS
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.errors import IncompatibleModel, NoChampion, RegistryError
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Cli, Environment
from tests.spark.conftest import Trained, make_task, registry_of
from tests.spark.tasks.test_model_train import QUICK


class TestScoring:
    def test_every_booking_is_scored_once_with_its_lineage(self, spark: Any, trained: Trained) -> None:
        predictions = spark.table(trained.environment.table("predictions"))
        result = trained.results["model_inference_batch"]
        features = spark.table(trained.environment.table("features"))
        assert predictions.columns == list(PREDICTIONS.column_names)
        assert predictions.count() == features.count() == result.rows
        assert predictions.select("booking_id").distinct().count() == result.rows
        lineage = predictions.select("model_name", "model_version", "model_run_id", "features_version").distinct()
        train = trained.results["model_train"]
        assert [tuple(row) for row in lineage.collect()] == [
            (trained.environment.model_name, 1, train.run_id, train.features_version)
        ]
        assert {str(row[0]) for row in predictions.select("scored_at").distinct().collect()} == {"2026-03-01 12:00:00"}

    def test_the_scores_are_the_models_own(self, spark: Any, trained: Trained) -> None:
        registry = registry_of(trained.environment)
        model = registry.load(registry.require_champion())
        joined = (
            spark.table(trained.environment.table("features"))
            .join(spark.table(trained.environment.table("predictions")), "booking_id")
            .toPandas()
        )
        expected = cancellation_probability(model, as_model_input(joined, DEFAULT_FEATURES))
        np.testing.assert_allclose(joined["cancellation_probability"], expected, atol=1e-12)
        threshold = trained.results["model_inference_batch"].threshold
        assert threshold == pytest.approx(1 / 3)
        assert (joined["prediction"] == (expected >= threshold)).all()

    def test_a_day_scored_again_is_not_doubled_and_another_day_is_added(
        self, spark: Any, featured: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_task(ModelTrain, spark, featured, *QUICK).run()
        first = make_task(ModelInferenceBatch, spark, featured).run()
        again = make_task(ModelInferenceBatch, spark, featured).run()
        assert (first.written, again.written) == (True, False)
        table = spark.table(featured.table("predictions"))
        assert table.count() == first.rows
        spark.sql(f"DELETE FROM {featured.table('bookings')} WHERE lead_time > 100")
        make_task(FeatureTableCreation, spark, featured).run()
        fewer = make_task(ModelInferenceBatch, spark, featured).run()
        assert table.count() == fewer.rows < first.rows
        # Spark counts a stage that it had to repeat twice: then what is in the table decides.
        monkeypatch.setattr("pyspark.sql.Observation.get", {"total": 2 * fewer.rows, "positive": 2 * fewer.rows})
        next_day = make_task(ModelInferenceBatch, spark, featured, "driver_rows=0", "batch_rows=100", day=2).run()
        assert (next_day.rows, next_day.predicted_cancellations) == (fewer.rows, fewer.predicted_cancellations)
        by_day = {str(row["scored_on"]): row["count"] for row in table.groupBy("scored_on").count().collect()}
        assert by_day == {"2026-03-01": fewer.rows, "2026-03-02": fewer.rows}
        # The first day was scored on the driver, the second by workers.
        assert table.select("booking_id", "cancellation_probability").distinct().count() == fewer.rows

    def test_a_feature_the_table_lacks_is_named_and_nothing_is_written(self, spark: Any, featured: Environment) -> None:
        spark.sql(f"ALTER TABLE {featured.table('features')} ADD COLUMN wind DOUBLE")
        spark.sql(f"UPDATE {featured.table('features')} SET wind = pmod(feature_key, 7)")
        names = ", ".join([*DEFAULT_FEATURES, "wind"])
        make_task(ModelTrain, spark, featured, *QUICK, f"features=[{names}]").run()
        table = featured.table("features")
        spark.sql(
            f"ALTER TABLE {table} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name', "
            "'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5')"
        )
        spark.sql(f"ALTER TABLE {table} DROP COLUMN wind")
        with pytest.raises(IncompatibleModel, match="needs wind"):
            make_task(ModelInferenceBatch, spark, featured).run()
        assert not spark.catalog.tableExists(featured.table("predictions"))

    def test_a_doubled_feature_row_is_an_error(self, spark: Any, featured: Environment) -> None:
        make_task(ModelTrain, spark, featured, *QUICK).run()
        make_task(ModelInferenceBatch, spark, featured).run()
        spark.sql(f"DELETE FROM {featured.table('predictions')} WHERE booking_id = 'INN00001'")
        spark.sql(f"INSERT INTO {featured.table('predictions')} SELECT * FROM {featured.table('predictions')} LIMIT 5")
        again = make_task(ModelInferenceBatch, spark, featured).run()
        assert again.written
        assert again.rows == spark.table(featured.table("features")).count()

    def test_without_a_champion_nothing_is_scored(self, spark: Any, featured: Environment) -> None:
        with pytest.raises(NoChampion, match="run model-train"):
            make_task(ModelInferenceBatch, spark, featured).run()


class TestRegistryFaults:
    def test_a_registry_that_is_down_is_one_clear_line(
        self, spark: Any, featured: Environment, monkeypatch: pytest.MonkeyPatch, booking_mlops: Cli
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hush@127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        outcome = booking_mlops("model-inference-batch", "--env-file", featured.file)
        assert outcome.code == 1
        assert outcome.err.splitlines()[-1].startswith("error: champion of")
        assert "hush" not in outcome.err

    def test_a_champion_whose_artifact_is_gone_is_an_error_and_the_predictions_stay(
        self, spark: Any, featured: Environment, lake: Path
    ) -> None:
        there = set(lake.glob("mlartifacts/**/model.pkl"))
        make_task(ModelTrain, spark, featured, *QUICK).run()
        # MLflow 2 keeps a model below its run, MLflow 3 by itself.
        (model,) = set(lake.glob("mlartifacts/**/model.pkl")) - there
        make_task(ModelInferenceBatch, spark, featured).run()
        before = spark.table(featured.table("predictions")).count()
        model.unlink()
        with pytest.raises(RegistryError, match="loading models:/"):
            make_task(ModelInferenceBatch, spark, featured, day=2).run()
        assert spark.table(featured.table("predictions")).count() == before

    def test_a_version_that_does_not_exist_is_said(self, trained: Trained) -> None:
        with pytest.raises(RegistryError, match="version 99"):
            registry_of(trained.environment).version(99)


def test_no_variable_of_the_process_reaches_tables_or_artifacts(
    spark: Any, featured: Environment, lake: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    token = "dapi" + "0badc0de" * 4
    monkeypatch.setenv("DATABRICKS_TOKEN", token)
    monkeypatch.setenv("MY_SECRET", token)
    make_task(ModelTrain, spark, featured, *QUICK).run()
    make_task(ModelInferenceBatch, spark, featured).run()
    captured = capfd.readouterr()
    assert token not in captured.out + captured.err
    for path in lake.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    assert os.environ["MY_SECRET"] == token
