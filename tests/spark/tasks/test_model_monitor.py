"""model-monitor and the drift check before scoring, on real tables."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from booking_mlops.errors import DriftAlarm, RegistryError
from booking_mlops.io.machine import this_machine
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_monitor import ModelMonitor
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Cli, Environment
from tests.spark.conftest import FORTY, LATER, OVER, SEEN, Trained, broken, make_task, registry_of

DEARER = "UPDATE {features} SET average_price = average_price * 100, feature_key = xxhash64(feature_key)"
SHUFFLED = "UPDATE {labels} SET is_canceled = CAST(pmod(xxhash64(booking_id, 'shuffle'), 100) < 33 AS INT)"


def found(result: Any, check: str) -> dict[str, Any]:
    return {finding.subject: finding for finding in result.findings if finding.check == check}


def monitoring(spark: Any, environment: Environment) -> Any:
    return spark.table(environment.table("monitoring")).toPandas().set_index(["check_name", "subject"])


def test_the_first_run_of_all_needs_no_model_and_no_prediction(spark: Any, featured: Environment) -> None:
    result = make_task(ModelMonitor, spark, featured).run()
    assert result.level == "too few"
    assert result.compared == "no champion yet, so nothing is new to it"
    assert result.champion_version is None
    assert found(result, "live metrics")["newest window"].detail == "no champion yet"
    assert len(found(result, "feature drift")) == 14
    assert set(monitoring(spark, featured)["level"]) == {"too few"}


def test_a_champion_on_the_bookings_it_knows_is_no_alarm(spark: Any, trained: Trained) -> None:
    environment = trained.environment
    rejected = spark.table(environment.table("bookings_rejected"))
    bad = rejected.count() / (rejected.count() + spark.table(environment.table("bookings")).count())
    # Lines that are sound, and that a later line replaced.
    replaced = (
        "INSERT INTO {bookings_rejected} SELECT r.source_file, r.source_fingerprint, b.id + 100000, "
        "'Booking_ID: replaced by line 7', '', r.rejected_at "
        "FROM (SELECT * FROM {bookings_rejected} LIMIT 1) r CROSS JOIN range(5000) b"
    )
    with broken(spark, environment, replaced):
        result = make_task(ModelMonitor, spark, environment).run()
    assert result.level == "ok", result.summary()
    assert result.compared == "no booking is new since version 1 was trained as of 2026-03-01"
    assert {finding.level for finding in found(result, "feature drift").values()} == {"too few"}
    assert found(result, "data quality")["bookings_rejected"].value == pytest.approx(bad)
    # These scores were given after the bookings had ended.
    (live,) = found(result, "live metrics").values()
    assert (live.level, live.detail) == ("too few", "no booking that was scored while it was open has an outcome yet")
    page = registry_of(environment).read_file(result.run_id, "monitoring.html")
    assert "no booking is new since version 1 was trained as of 2026-03-01" in page


def test_an_alarm_is_written_down_before_it_is_raised_and_the_day_is_not_doubled(
    spark: Any, good: Environment, booking_mlops: Cli
) -> None:
    with broken(spark, good, DEARER):
        for _ in range(2):
            with pytest.raises(DriftAlarm, match=r"average_price: PSI .*see monitoring\.html of run .*was not started"):
                make_task(ModelMonitor, spark, good, "retrain_job=test-model-train", day=3).run()
            table = monitoring(spark, good)
            assert table.index.is_unique
        silent = make_task(ModelMonitor, spark, good, "fail_on_alarm=false", day=4).run()
    assert table.loc[("feature drift", "average_price"), "level"] == "alarm"
    assert table.loc[("data quality", "average_price"), "level"] == "alarm"
    assert table.loc[("feature drift", "lead_time"), "level"] == "ok"
    assert "there is no workspace here" in table.loc[("retrain", "test-model-train"), "detail"]
    assert table.loc[("feature drift", "average_price"), "model_version"] == 1
    assert table.loc[("feature drift", "average_price"), "reference_version"] == 1
    assert silent.level == "alarm"
    assert "have changed or came late" in silent.compared
    page = registry_of(good).read_file(silent.run_id, "monitoring.html")
    assert page.count("data:image/png") >= 4
    assert ("alarm", "feature drift: average_price: PSI") in [
        (label, text.rpartition(" ")[0]) for label, text in silent.summary()
    ]
    outcome = booking_mlops("model-monitor", "--env-file", good.file, "--set", "drift.levels.warn=0.3")
    assert outcome.code == 1
    assert "warn must be above 0 and not above alarm" in outcome.err


OVER_DAY = (f"env.as_of={OVER}", "live.weeks=20", "drift.window_days=60")


def test_a_champion_is_judged_by_the_last_score_a_booking_had_while_it_was_open(spark: Any, lived: Trained) -> None:
    result = make_task(ModelMonitor, spark, lived.environment, *OVER_DAY, "drift.max_rows=100000").run()
    live = found(result, "live metrics")
    labels = spark.table(lived.environment.table("labels")).toPandas()
    scores = spark.table(lived.environment.table("predictions")).toPandas().merge(labels, on="booking_id")
    scores = scores[scores["scored_on"] <= scores["event_date"]].sort_values("scored_on")
    last = scores.drop_duplicates("booking_id", keep="last")
    newest = last[last["event_date"] >= result.window.first]
    assert set(newest["scored_on"]) == {LATER}
    judged = live["newest window"]
    assert judged.rows == len(newest) > 500
    assert judged.value == pytest.approx(roc_auc_score(newest["is_canceled"], newest["cancellation_probability"]))
    assert f"{newest['is_canceled'].sum():,} came" in judged.detail
    announced = lived.results[f"model_train {SEEN}"].backtest.roc_auc
    assert f"expected {announced:.3f}" in judged.detail
    # Thirty days before arrival, many had the score of the first day only.
    early = scores[(pd.to_datetime(scores["event_date"]) - pd.to_datetime(scores["scored_on"])).dt.days >= 30]
    assert live["scored 30 or more days before arrival"].rows == early["booking_id"].nunique()
    weeks = [one for subject, one in live.items() if subject.startswith("week of")]
    assert len(weeks) >= 10
    assert sum(one.rows for one in weeks) == len(last)


def test_a_score_given_after_a_booking_had_ended_judges_nobody(spark: Any, lived: Trained) -> None:
    before = make_task(ModelMonitor, spark, lived.environment, *OVER_DAY).run()
    ended = "UPDATE {bookings} SET booking_status = 'Not_Canceled' WHERE booking_status = 'Open'"
    with broken(spark, lived.environment, ended, "DELETE FROM {predictions} WHERE false"):
        for late, scope in ((LATER + timedelta(10), "all"), (OVER, "auto")):
            settings = (f"env.as_of={late}", f"scope={scope}", "drift.policy=skip")
            assert make_task(ModelInferenceBatch, spark, lived.environment, *settings).run().written
        after = make_task(ModelMonitor, spark, lived.environment, *OVER_DAY).run()
    # As text, in which a number that is none equals another.
    assert repr(found(after, "live metrics")) == repr(found(before, "live metrics"))


def test_a_champion_that_does_badly_on_new_labels_is_an_alarm(spark: Any, lived: Trained) -> None:
    with (
        broken(spark, lived.environment, SHUFFLED),
        pytest.raises(DriftAlarm, match="live metrics: newest window: ROC AUC 0"),
    ):
        make_task(ModelMonitor, spark, lived.environment, *OVER_DAY, day=5).run()


def test_few_bookings_are_not_judged(spark: Any, good: Environment) -> None:
    with broken(spark, good, f"{DEARER} WHERE booking_id < 'INN00031'"):
        result = make_task(ModelMonitor, spark, good, day=6).run()
    assert {finding.level for finding in found(result, "feature drift").values()} == {"too few"}
    few = (
        r"\d\d bookings are new since version 1 was trained as of 2026-03-01, .* were known; at least 500 are compared"
    )
    assert re.match(few, result.compared)


def test_bookings_made_since_the_training_are_compared_with_the_season_and_their_scores_too(
    spark: Any, lived: Trained
) -> None:
    """Scored were the open ones only; the reference holds bookings that never were."""
    settings = (f"env.as_of={LATER}", "drift.min_rows=200", "fail_on_alarm=false")
    result = make_task(ModelMonitor, spark, lived.environment, *settings, day=8).run()
    assert {one.level for one in found(result, "feature drift").values()} <= {"ok", "warn"}, result.summary()
    assert f"bookings that became known after 2018-09-03, by {LATER}, new since version 1" in result.compared
    (score,) = found(result, "score drift").values()
    assert score.level in ("ok", "warn")
    assert min(score.rows, score.reference_rows) >= 200
    assert 0.4 < found(result, "domain classifier")["all features"].value < 0.75


class Jobs:
    """In a workspace's place: remembers which jobs were started."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.failed: set[int] = set()

    def run_failed(self, run_id: int) -> bool:
        return run_id in self.failed

    def start_job(self, name: str) -> int:
        self.started.append(name)
        return 40 + len(self.started)


def test_an_alarm_starts_one_retraining_and_one_that_keeps_the_champion_ends_it(
    spark: Any, featured: Environment
) -> None:
    """Here a feature moves that decides little, so that a model which knows it is no better."""
    assert make_task(ModelTrain, spark, featured, *FORTY).run().decision.promoted
    spark.sql(
        f"UPDATE {featured.table('features')} SET number_of_adults = number_of_adults + 5, "
        "feature_key = xxhash64(feature_key)"
    )
    jobs = Jobs()

    def watch(day: int) -> str:
        task = make_task(ModelMonitor, spark, featured, "retrain_job=retrain", "fail_on_alarm=false", day=day)
        task.session.__dict__["workspace"] = jobs
        result = task.run()
        return f"{result.level}: {result.retrained}"

    assert watch(1) == "alarm: run 41 of retrain was started"
    waiting = "alarm: run 41 of retrain was started on 2026-03-01 for this alarm; "
    assert [watch(1), watch(2)] == [f"{waiting}waiting for its decision"] * 2
    with pytest.raises(DriftAlarm, match="a training that keeps the champion ends this, too"):
        make_task(ModelInferenceBatch, spark, featured, "drift.policy=hold", day=2).run()

    rejected = make_task(ModelTrain, spark, featured, *FORTY, "gates.min_roc_auc=0.99", day=3).run()
    assert rejected.decision.outcome == "rejected"
    assert watch(4).startswith(f"{waiting}version 2 was rejected: min_roc_auc: ROC AUC 0.")
    assert jobs.started == ["retrain"]
    jobs.failed.add(41)
    assert watch(4) == "alarm: run 42 of retrain was started"

    kept = make_task(ModelTrain, spark, featured, *FORTY, day=5).run()
    assert kept.decision.outcome == "kept", kept.decision.reason
    assert watch(6) == "too few: "
    assert make_task(ModelInferenceBatch, spark, featured, "drift.policy=hold", day=6).run().written
    assert jobs.started == ["retrain"] * 2
    rows = spark.table(featured.table("monitoring")).where("subject = 'number_of_adults'").collect()
    assert {row["reference_version"] for row in rows} == {1, 3}


def test_the_champion_is_compared_with_what_it_was_trained_on_when_delta_has_forgotten_that(
    spark: Any, featured: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    assert make_task(ModelTrain, spark, featured, *FORTY).run().decision.promoted
    spark.sql(DEARER.format(features=featured.table("features")))
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql(f"VACUUM {featured.table('features')} RETAIN 0 HOURS")
    moved = make_task(ModelInferenceBatch, spark, featured, day=2).run()
    assert [(one.subject, one.level) for one in moved.drift] == [("average_price", "alarm")]
    result = make_task(ModelMonitor, spark, featured, "fail_on_alarm=false", day=2).run()
    assert found(result, "feature drift")["average_price"].level == "alarm"
    assert found(result, "score drift")["cancellation_probability"].reference_rows > 500

    client = registry_of(featured).client()
    client.delete_model_version_tag(featured.model_name, "1", "reference_rows")
    scored = make_task(ModelInferenceBatch, spark, featured, day=3).run()
    assert (scored.written, scored.drift) == (True, ())
    assert "version 1 is of a release that did not record which bookings it knew; train again" in caplog.text


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_without_the_bookings_to_compare_with_nothing_is_scored(spark: Any, featured: Environment, how: str) -> None:
    assert make_task(ModelTrain, spark, featured, *FORTY).run().decision.promoted
    registry = registry_of(featured)
    (file,) = this_machine(os.environ).artifacts.glob(f"{registry.version(1).run_id}/artifacts/reference.parquet")
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        RegistryError, match=r"the reference sample of version 1 can.t be read from its run .*: .+drift\.policy=skip"
    ):
        make_task(ModelInferenceBatch, spark, featured).run()
    assert spark.table(featured.table("predictions")).isEmpty()
    assert make_task(ModelInferenceBatch, spark, featured, "drift.policy=skip").run().written


@pytest.mark.parametrize("policy", ["hold", "warn", "skip"])
def test_drift_before_scoring_holds_the_scores_or_says_so(
    spark: Any, good: Environment, policy: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_task(ModelInferenceBatch, spark, good).run()
    before = spark.sql(f"DESCRIBE HISTORY {good.table('predictions')}").first()["version"]
    with broken(spark, good, DEARER):
        task = make_task(ModelInferenceBatch, spark, good, f"drift.policy={policy}", day=9)
        if policy == "hold":
            with pytest.raises(DriftAlarm, match=r"scores are held, the predictions are as they were: .*average_price"):
                task.run()
        else:
            drift = [one.subject for one in task.run().drift]
            assert drift == (["average_price"] if policy == "warn" else [])
    after = spark.sql(f"DESCRIBE HISTORY {good.table('predictions')}").first()["version"]
    assert (after == before) == (policy == "hold")
    assert ("drift: average_price" in caplog.text) == (policy != "skip")
