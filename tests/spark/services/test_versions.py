"""History, comparison, rollback and reproduction, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.errors import ConfigError, NoChampion
from booking_mlops.io.registry import Registry
from booking_mlops.session import utc_now
from booking_mlops.tasks.integration_test import IntegrationTest
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_rollback import ModelRollback, ModelRollbackResult
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import ROOT, Cli, Environment
from tests.spark.conftest import Trained, copy_features, make_task, registry_of
from tests.spark.tasks.test_model_train import WEAK, champion_of, decisions


@pytest.fixture(scope="module")
def two(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Path) -> Environment:
    """A weak champion, replaced by a better one."""
    environment = copy_features(spark, trained, tmp_path_factory.mktemp("two"), lake)
    make_task(ModelTrain, spark, environment, *WEAK).run()
    assert make_task(ModelTrain, spark, environment, day=2).run().decision.promoted
    return environment


def test_rollback_gives_the_alias_back_is_recorded_and_the_next_batch_scores_with_it(
    spark: Any, two: Environment, booking_mlops: Cli
) -> None:
    make_task(ModelInferenceBatch, spark, two, day=3).run()
    outcome = booking_mlops("model", "rollback", "--env-file", two.file, "--reason", "complaints: 'too many' alarms")
    assert outcome.code == 0, outcome.err
    assert "version 1, was version 2" in outcome.out
    assert champion_of(two) == 1
    staged = registry_of(two).client().get_latest_versions(two.model_name, stages=["Production"])
    assert [int(version.version) for version in staged] == [1]
    row = max(decisions(spark, two), key=lambda found: found["decided_at"])
    assert (row["decision"], row["champion_version"], row["champion_after"]) == ("rolled_back", 2, 1)
    assert row["reason"] == "complaints: 'too many' alarms"
    scored = make_task(ModelInferenceBatch, spark, two, day=3).run()
    assert (scored.model_version, scored.written) == (1, True)

    past = booking_mlops("model", "history", "--env-file", two.file)
    lines = [line for line in past.out.splitlines() if line.strip()]
    assert len(lines) == 3
    assert "rolled_back" in lines[0]
    assert "complaints" in lines[0]
    assert "promoted" in lines[1]
    assert len(booking_mlops("model", "history", "--env-file", two.file, "--limit", "1").out.splitlines()) == 1

    again = booking_mlops("model", "rollback", "--env-file", two.file, "--to", "2", "--reason", "back again")
    assert again.code == 0, again.err
    assert champion_of(two) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--to", "2"], "is champion already"),
        (["--to", "99"], "version 99"),
        ([], "reason: a rollback needs one"),
    ],
)
def test_a_rollback_that_makes_no_sense_changes_nothing(
    spark: Any, two: Environment, booking_mlops: Cli, more: list[str], message: str
) -> None:
    before = decisions(spark, two), champion_of(two)
    reason = "" if not more else "because"
    outcome = booking_mlops("model", "rollback", "--env-file", two.file, "--reason", reason, *more)
    assert outcome.code == 1
    assert message in outcome.err
    assert (decisions(spark, two), champion_of(two)) == before


def test_the_first_champion_has_no_predecessor(trained: Trained, booking_mlops: Cli) -> None:
    outcome = booking_mlops("model", "rollback", "--env-file", trained.environment.file, "--reason", "x")
    assert outcome.code == 1
    assert "had no champion before version 1" in outcome.err


def test_a_rollback_that_is_killed_half_way_is_finished_by_the_next_run_which_goes_no_further(
    spark: Any, two: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise SystemError("killed")

    def rollback(*settings: str) -> ModelRollbackResult:
        task = make_task(ModelRollback, spark, two, *settings)
        task.session.clock = utc_now  # later than what the command line recorded
        return task.run()

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "make_champion", crash)
        with pytest.raises(SystemError):
            rollback("reason=complaints")
    assert champion_of(two) == 2
    recorded = decisions(spark, two)
    finished = rollback("reason=complaints")
    assert (finished.before, finished.after, finished.reason) == (2, 1, "complaints")
    assert champion_of(two) == 1
    with pytest.raises(ConfigError, match="champion already, since a rollback for the same reason"):
        rollback("reason=complaints")
    # Version 1 was the first: the version that was left is not the way back.
    with pytest.raises(NoChampion, match="had no champion before version 1"):
        rollback("reason=more complaints")
    assert (decisions(spark, two), champion_of(two)) == (recorded, 1)

    rollback("to=2", "reason=mended")
    assert [row["reason"] for row in sorted(decisions(spark, two), key=lambda row: row["decided_at"])][-2:] == [
        "complaints",
        "mended",
    ]
    assert champion_of(two) == 2


def test_compare_prints_both_and_promotes_neither(spark: Any, two: Environment, booking_mlops: Cli) -> None:
    before = decisions(spark, two), champion_of(two)
    outcome = booking_mlops("model", "compare", "2", "1", "--env-file", two.file)
    assert outcome.code == 0, outcome.err
    assert "better than the champion" in outcome.out
    assert "nothing was promoted" in outcome.out
    reverse = booking_mlops("model", "compare", "1", "2", "--env-file", two.file)
    assert "lower bound not above 0" in reverse.out
    assert (decisions(spark, two), champion_of(two)) == before


def test_a_version_is_reproduced_to_the_last_digit_whatever_the_tables_hold_now(
    spark: Any, featured: Environment, booking_mlops: Cli
) -> None:
    make_task(ModelTrain, spark, featured, "model.n_estimators=15", "model.seed=5").run()
    spark.sql(f"UPDATE {featured.table('features')} SET lead_time = 0 WHERE pmod(feature_key, 2) = 0")
    outcome = booking_mlops("model", "reproduce", "1", "--env-file", featured.file)
    assert outcome.code == 0, outcome.err
    assert "identical on" in outcome.out

    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    spark.sql(f"VACUUM {featured.table('features')} RETAIN 0 HOURS")
    gone = booking_mlops("model", "reproduce", "1", "--env-file", featured.file)
    assert gone.code == 1
    assert "VACUUM has removed their files" in gone.err
    assert "Arrow" not in gone.err  # nor Spark's own page about it
    assert "Traceback" not in gone.err


def test_a_version_that_the_first_release_registered_is_reproduced(
    trained: Trained, booking_mlops: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = (ROOT / "tests" / "confs" / "recorded" / "model_train_0.1.0.json").read_text(encoding="utf-8")
    monkeypatch.setattr(Registry, "read_file", lambda *_: recorded)
    outcome = booking_mlops("model", "reproduce", "1", "--env-file", trained.environment.file)
    assert outcome.code == 0, outcome.err
    assert "identical on" in outcome.out
    assert "'forest' is called 'model' now" in outcome.err


def test_the_history_needs_the_environment_only(trained: Trained, booking_mlops: Cli, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "model_train.yml").write_text("nonsense: 1", encoding="utf-8")
    arguments = ["model", "history", "--conf-dir", tmp_path, "--env-file", trained.environment.file]
    outcome = booking_mlops(*arguments)
    assert outcome.code == 0, outcome.err
    assert "first model to pass the gates" in outcome.out
    refused = booking_mlops(*arguments, "--set", "model.max_depth=3")
    assert refused.code == 1
    assert "this command needs the environment only; begin with env." in refused.err


def test_a_model_that_does_not_come_out_the_same_is_said(
    spark: Any, featured: Environment, booking_mlops: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_task(ModelTrain, spark, featured, "model.n_estimators=15").run()
    read = Registry.read_file

    def other_seed(self: Registry, run_id: str, name: str) -> str:
        recorded = json.loads(read(self, run_id, name))
        recorded["model"]["seed"] += 1
        return json.dumps(recorded)

    monkeypatch.setattr(Registry, "read_file", other_seed)
    outcome = booking_mlops("model", "reproduce", "1", "--env-file", featured.file)
    assert outcome.code == 1
    assert "trained again differs by up to" in outcome.err


def test_the_report_tells_the_whole_story(two: Environment) -> None:
    registry = registry_of(two)
    page = registry.read_file(registry.version(2).run_id, "report.html")
    for expected in ("In plain words", "promoted", "Improvement in ROC AUC over the champion", "lead time",
                     "segment", "min_roc_auc", "data:image/png;base64,", "The model is weakest for"):  # fmt: skip
        assert expected in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<img") == 5


def test_after_all_that_the_promises_hold(spark: Any, two: Environment) -> None:
    scoring = make_task(ModelInferenceBatch, spark, two)
    scoring.session.clock = utc_now
    scoring.run()
    assert make_task(IntegrationTest, spark, two).run().promises
