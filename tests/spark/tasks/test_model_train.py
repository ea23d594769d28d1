"""Training and promotion, on real Delta tables and a real registry."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from booking_mlops.core.bookings.features import DEFAULT_FEATURES, feature_key_sql
from booking_mlops.core.model.metrics import evaluate
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.core.model.split import holdout_mask
from booking_mlops.errors import DataQualityError, IncompatibleModel
from booking_mlops.io.registry import Registry
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Cli, Environment, write_bookings
from tests.spark.conftest import Trained, make_task, registry_of, training_data

# Small forests make the refusals quick; nothing about them depends on the forest's size.
QUICK = ("model.n_estimators=20", "comparison.bootstrap_samples=200")
WEAK = ("model.max_depth=2", "gates.min_roc_auc=0.6", "gates.max_importance=1", "gates.max_calibration_error=1")


def decisions(spark: Any, environment: Environment) -> list[Any]:
    return spark.table(environment.table("promotions")).orderBy("challenger_version", "decided_at").collect()


def champion_of(environment: Environment) -> int | None:
    found = registry_of(environment).champion()
    return found.number if found else None


class TestFirstModel:
    def test_the_holdout_is_unseen_twins_included_and_the_metrics_are_those_of_the_model(
        self, spark: Any, trained: Trained
    ) -> None:
        task = make_task(ModelTrain, spark, trained.environment)
        data = training_data(task)
        assert not set(data.train["feature_key"]) & set(data.holdout["feature_key"])
        assert data.holdout["feature_key"].is_unique
        registry = registry_of(trained.environment)
        model = registry.load(registry.require_champion())
        scores = cancellation_probability(model, as_model_input(data.holdout, DEFAULT_FEATURES))
        found = evaluate(data.labels, scores)
        result = trained.results["model_train"]
        assert found == result.metrics
        assert result.metrics.roc_auc > 0.88
        assert result.metrics.ece < 0.03
        assert result.auc_interval.lower < result.metrics.roc_auc < result.auc_interval.upper

    def test_everything_needed_to_judge_and_repeat_it_is_recorded(self, spark: Any, trained: Trained) -> None:
        result = trained.results["model_train"]
        registry = registry_of(trained.environment)
        client = registry.client()
        run = client.get_run(result.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.metrics["holdout_roc_auc"] == pytest.approx(result.metrics.roc_auc)
        assert run.data.metrics["as_of_roc_auc"] == pytest.approx(result.backtest.roc_auc)
        assert result.backtest.roc_auc > 0.6
        assert run.data.params["model.max_depth"] == "14"
        assert run.data.tags["features_version"] == str(result.features_version)
        assert len(run.data.tags["git_commit"]) == 40
        files = {item.path for item in client.list_artifacts(result.run_id)}
        assert {"config.json", "decision.json", "backtest.json", "plots"} <= files
        plots = {item.path for item in client.list_artifacts(result.run_id, "plots")}
        assert len(plots) >= 4
        version = registry.version(1)
        assert version.tags["training_rows"] == str(result.training_rows)
        kept = pd.read_parquet(io.BytesIO(registry.read_bytes(result.run_id, "reference.parquet")))
        known = spark.table(trained.environment.table("features")).select("booking_id").toPandas()
        assert sorted(kept["booking_id"]) == sorted(known["booking_id"])
        assert version.tags["reference_rows"] == str(len(known))
        every, holdout = result.all_rows, training_data(make_task(ModelTrain, spark, trained.environment))
        assert every.rows == len(holdout.holdout) + len(holdout.holdout_twins) >= result.metrics.rows
        assert run.data.metrics["holdout_all_rows_roc_auc"] == pytest.approx(every.roc_auc)
        page = registry.read_file(result.run_id, "report.html")
        assert f"{every.roc_auc:.4f}" in page
        assert f"go by the {result.metrics.rows:,} distinct bookings" in page
        folder = mlflow.artifacts.download_artifacts(version.uri)
        loaded = mlflow.pyfunc.load_model(folder)
        assert loaded.metadata.signature is not None
        assert loaded.predict(loaded.metadata.load_input_example(folder)).shape == (5, 2)

    def test_the_run_says_which_data_and_which_model_belong_together(self, trained: Trained) -> None:
        result = trained.results["model_train"]
        client = registry_of(trained.environment).client()
        inputs = {
            one.tags[0].value: (one.dataset.name, json.loads(one.dataset.source))
            for one in client.get_run(result.run_id).inputs.dataset_inputs
        }
        expected = {"training": ("features", result.features_version), "labels": ("labels", result.labels_version)}
        assert set(inputs) == set(expected)
        for context, (table, version) in expected.items():
            name, source = inputs[context]
            assert name == source["delta_table_name"] == trained.environment.table(table)
            assert source["delta_table_version"] == version
        if int(mlflow.__version__.split(".")[0]) < 3:
            return
        (output,) = client.get_run(result.run_id).outputs.model_outputs
        linked = {one.key: one for one in client.get_logged_model(output.model_id).metrics}
        assert linked["holdout_roc_auc"].value == pytest.approx(result.metrics.roc_auc)
        assert linked["holdout_roc_auc"].dataset_name == trained.environment.table("features")
        registered = client.get_model_version(trained.environment.model_name, "1")
        assert registered.source == f"models:/{output.model_id}"

    def test_the_model_takes_a_notebooks_whole_numbers_and_sparks(self, spark: Any, trained: Trained) -> None:
        version = registry_of(trained.environment).require_champion()
        row = spark.table(trained.environment.table("features")).select(*DEFAULT_FEATURES).limit(1).toPandas()
        whole = [name for name in DEFAULT_FEATURES if pd.api.types.is_integer_dtype(row[name])]
        assert set(DEFAULT_FEATURES) - set(whole) == {
            "type_of_meal", "room_type", "market_segment_type", "average_price",
        }  # fmt: skip
        model = mlflow.pyfunc.load_model(version.uri)
        of_spark = model.predict(row)
        of_notebook = model.predict(row.astype(dict.fromkeys(whole, "int64")))
        assert of_spark.shape == (1, 2)
        np.testing.assert_array_equal(of_notebook, of_spark)
        assert of_spark.sum() == pytest.approx(1.0)
        predictions = spark.table(trained.environment.table("predictions"))
        features = spark.table(trained.environment.table("features")).limit(50)
        answer = mlflow.pyfunc.spark_udf(spark, version.uri, result_type="array<double>", env_manager="local")
        scored = features.join(predictions, "booking_id").select(
            "cancellation_probability", answer(*DEFAULT_FEATURES).alias("answer")
        )
        for one in scored.collect():
            assert list(one["answer"]) == pytest.approx(
                [1 - one["cancellation_probability"], one["cancellation_probability"]], abs=1e-12
            )

    def test_the_decision_is_in_the_history_and_the_registry_agrees(self, spark: Any, trained: Trained) -> None:
        (row,) = decisions(spark, trained.environment)
        assert (row["decision"], row["champion_version"], row["champion_after"]) == ("promoted", None, 1)
        assert row["reason"] == "first model to pass the gates"
        assert all(gate["passed"] for gate in json.loads(row["gates"]))
        registry = registry_of(trained.environment)
        client = registry.client()
        assert client.get_model_version_by_alias(trained.environment.model_name, "champion").version in (1, "1")
        staged = client.get_latest_versions(trained.environment.model_name, stages=["Production"])
        assert [int(one.version) for one in staged] == [1]


class TestComparison:
    def test_the_same_data_again_is_a_tie_and_the_champion_stays(self, spark: Any, featured: Environment) -> None:
        first = make_task(ModelTrain, spark, featured, *QUICK).run()
        second = make_task(ModelTrain, spark, featured, *QUICK, day=2).run()
        assert (first.decision.outcome, second.decision.outcome) == ("promoted", "kept")
        assert "a tie" in second.decision.reason
        assert second.metrics == first.metrics
        assert champion_of(featured) == 1
        assert [row["decision"] for row in decisions(spark, featured)] == ["promoted", "kept"]

    def test_a_better_model_replaces_the_champion_and_a_worse_one_does_not(
        self, spark: Any, featured: Environment
    ) -> None:
        first = make_task(ModelTrain, spark, featured, *WEAK).run()
        better = make_task(ModelTrain, spark, featured, day=2).run()
        worse = make_task(ModelTrain, spark, featured, *WEAK, "model.seed=1", day=3).run()
        outcomes = [one.decision.outcome for one in (first, better, worse)]
        assert outcomes == ["promoted", "promoted", "kept"]
        assert better.decision.comparison.improvement.lower > 0
        assert champion_of(featured) == 2
        assert worse.champion_version == 2
        stages = {
            int(v.version): v.current_stage
            for v in registry_of(featured).client().search_model_versions(f"name = '{featured.model_name}'")
        }
        assert stages == {1: "Archived", 2: "Production", 3: "None"}

    def test_the_champion_is_judged_on_rows_it_has_not_seen(self, spark: Any, featured: Environment) -> None:
        make_task(ModelTrain, spark, featured, *QUICK).run()
        seen = training_data(make_task(ModelTrain, spark, featured))
        spark.sql(f"DELETE FROM {featured.table('features')} WHERE pmod(feature_key, 10) = 0")
        later = training_data(make_task(ModelTrain, spark, featured))
        assert not set(seen.train["feature_key"]) & set(later.holdout["feature_key"])

    def test_a_model_of_noise_is_rejected_by_name_and_there_is_no_champion(
        self, spark: Any, featured: Environment, booking_mlops: Cli
    ) -> None:
        spark.sql(f"UPDATE {featured.table('labels')} SET is_canceled = CAST(pmod(xxhash64(booking_id), 3) = 0 AS INT)")
        result = make_task(ModelTrain, spark, featured, *QUICK).run()
        assert result.decision.outcome == "rejected"
        assert "min_roc_auc" in result.decision.reason
        assert champion_of(featured) is None
        scoring = booking_mlops("model-inference-batch", "--env-file", featured.file)
        assert scoring.code == 1
        assert f"version 1 of {featured.model_name}, the only candidate, was refused by " in scoring.err
        assert "below 0.8 by 0." in scoring.err
        assert "booking-mlops model-train --set gates.min_roc_auc=" in scoring.err
        assert ("refused by", "min_roc_auc") in [(one, said.partition(":")[0]) for one, said in result.summary()]
        assert not spark.catalog.tableExists(featured.table("predictions"))

    def test_a_run_whose_only_candidate_is_refused_says_at_the_end_what_can_be_done(
        self, spark: Any, environment: Environment, booking_mlops: Cli, tmp_path: Path
    ) -> None:
        write_bookings(tmp_path / "few.csv", 600)
        quick = ("--set", "model_train.model.n_estimators=10", "--set", "model_train.comparison.bootstrap_samples=100")
        done = booking_mlops("run", "--env-file", environment.file, "--booking-csv", tmp_path / "few.csv", *quick)
        assert done.code == 1
        # What was done before is shown, and then why there is no more of it.
        assert "600 read = 600 bookings" in done.out
        assert "refused by" in done.out
        last = done.err.splitlines()[-1]
        assert last.startswith(f"error: version 1 of {environment.model_name}, the only candidate, was refused by ")
        assert "distinct holdout rows, below 2000 by 18" in last
        assert "more bookings with an outcome are needed" in last


class TestRepair:
    def test_a_crash_between_decision_and_registry_is_repaired_by_the_next_run(
        self, spark: Any, featured: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_task(ModelTrain, spark, featured, *WEAK).run()

        def crash(*_: object) -> None:
            raise SystemError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(Registry, "make_champion", crash)
            with pytest.raises(SystemError):
                make_task(ModelTrain, spark, featured, day=2).run()
        assert decisions(spark, featured)[-1]["champion_after"] == 2
        assert champion_of(featured) == 1
        third = make_task(ModelTrain, spark, featured, day=3).run()
        assert champion_of(featured) == 2
        assert third.decision.outcome == "kept"
        registry_of(featured).client().delete_registered_model(featured.model_name)
        anew = make_task(ModelTrain, spark, featured, *WEAK, day=4).run()
        assert (anew.version, anew.champion_version) == (1, 1)

    def test_recording_a_decision_twice_adds_one_row(self, spark: Any, trained: Trained) -> None:
        task = make_task(ModelTrain, spark, trained.environment)
        before = decisions(spark, trained.environment)
        task.session.tables.append_new("promotions", [before[0].asDict()], "decision_id")
        assert decisions(spark, trained.environment) == before


class TestTrainingData:
    def test_more_rows_than_the_limit_are_sampled_the_same_way_each_time(self, spark: Any, trained: Trained) -> None:
        frames = [
            training_data(make_task(ModelTrain, spark, trained.environment, "max_training_rows=3000")) for _ in range(2)
        ]
        assert frames[0].train.equals(frames[1].train)
        assert 2_700 < len(frames[0].train) + len(frames[0].holdout) < 3_300

    @pytest.mark.parametrize(
        ("statement", "settings", "error", "message"),
        [
            (None, ["features=[lead_time, wind]"], IncompatibleModel, "has no column wind"),
            ("UPDATE {labels} SET is_canceled = 0", [], DataQualityError, "fewer than two classes"),
            ("DELETE FROM {features} WHERE booking_id > 'INN00003'", [], DataQualityError, "fewer than two classes"),
        ],
    )
    def test_data_that_cannot_be_trained_on_is_said(
        self,
        statement: str | None,
        settings: list[str],
        error: type[Exception],
        message: str,
        spark: Any,
        featured: Environment,
    ) -> None:
        if statement:
            spark.sql(statement.format(labels=featured.table("labels"), features=featured.table("features")))
        with pytest.raises(error, match=message):
            make_task(ModelTrain, spark, featured, *settings).run()


def test_the_feature_key_is_frozen(spark: Any) -> None:
    # The holdout hangs on it: another Spark that hashes otherwise must fail here, not in promotion.
    values = dict.fromkeys(DEFAULT_FEATURES, "CAST(1 AS INT)")
    values |= {"type_of_meal": "'a'", "room_type": "'b'", "market_segment_type": "'c'", "average_price": "1.5D"}
    row = spark.sql("SELECT " + ", ".join(f"{sql} AS {name}" for name, sql in values.items()))
    assert row.selectExpr(feature_key_sql()).first()[0] == FROZEN_KEY
    assert holdout_mask(np.array([FROZEN_KEY]), 0.2).tolist() == [False]


FROZEN_KEY = -48630139050899797
