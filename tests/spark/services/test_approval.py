"""`promotion.approval: required`: a better challenger waits until somebody approves it, through the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from booking_mlops.errors import ApprovalRefused, NoChampion
from booking_mlops.io.registry import Registry
from booking_mlops.session import utc_now
from booking_mlops.tasks.model_approve import ModelApprove, ModelApproveResult
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain, ModelTrainResult
from tests.conftest import Cli, Environment, Outcome
from tests.spark.conftest import Trained, copy_features, make_task, registry_of
from tests.spark.tasks.test_model_train import QUICK, WEAK, champion_of, decisions


def train(spark: Any, environment: Environment, *settings: str) -> ModelTrainResult:
    task = make_task(ModelTrain, spark, environment, *QUICK, "promotion.approval=required", *settings)
    task.session.clock = utc_now  # as the command line has it
    result: ModelTrainResult = task.run()
    return result


def marked(environment: Environment, stage: str) -> tuple[int, list[int]]:
    """The version with the alias `challenger`, and those in a stage."""
    client = registry_of(environment).client()
    staged = client.get_latest_versions(environment.model_name, stages=[stage])
    alias = client.get_model_version_by_alias(environment.model_name, "challenger")
    return int(alias.version), [int(version.version) for version in staged]


@pytest.fixture(scope="module")
def waiting(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Path) -> Environment:
    """A first version that waits, and so no champion."""
    environment = copy_features(spark, trained, tmp_path_factory.mktemp("waiting"), lake)
    first = train(spark, environment, *WEAK)
    assert (first.decision.outcome, first.champion_version) == ("waiting", None)
    with pytest.raises(
        NoChampion, match=r"version 1 of .* waits for approval, .*: booking-mlops model approve 1 --reason"
    ):
        make_task(ModelInferenceBatch, spark, environment).run()
    return environment


def test_a_version_becomes_champion_by_approval_only(
    spark: Any, waiting: Environment, booking_mlops: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def approve(*arguments: str) -> Outcome:
        return booking_mlops("model", "approve", *arguments, "--env-file", waiting.file)

    def refused(message: str, *arguments: str) -> None:
        before = decisions(spark, waiting), champion_of(waiting)
        outcome = approve(*arguments)
        assert (outcome.code, message in outcome.err) == (1, True), outcome.err
        assert outcome.err.count("error:") == 1
        assert (decisions(spark, waiting), champion_of(waiting)) == before

    because = ("--reason", "seen by 'revenue' management")
    assert approve("1").code == 2
    refused("reason: an approval needs one", "1", "--reason", " ")
    refused("version 9 of", "9", *because)
    done = approve("1", *because)
    assert done.code == 0, done.err
    assert "version 1, there was none" in done.out
    # Killed after all was done, and started again.
    recorded = decisions(spark, waiting)
    assert approve("1", *because).code == 0
    assert decisions(spark, waiting) == recorded
    refused("is champion already; nothing was changed", "1", "--reason", "once more")
    assert champion_of(waiting) == 1

    better = train(spark, waiting)
    assert (better.version, better.decision.outcome, better.champion_version) == (2, "waiting", 1)
    assert better.decision.reason.startswith("waits for approval: better than the champion")
    middling = train(spark, waiting, *WEAK, "model.max_depth=4")
    assert (middling.version, middling.decision.outcome) == (3, "waiting"), middling.decision
    worse = train(spark, waiting, *WEAK, "model.seed=9")
    assert (worse.version, worse.decision.outcome) == (4, "kept")
    assert champion_of(waiting) == 1
    # A later version that does not wait takes nothing from the one that does.
    assert marked(waiting, "Staging") == (3, [3])
    refused("version 4 of", "4", *because)
    refused("does not wait for approval (kept:", "4", *because)

    # Killed between the decision and the registry: the next call finishes it.
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "make_champion", lambda *_: (_ for _ in ()).throw(SystemError("killed")))
        with pytest.raises(SystemError):
            approved(spark, waiting, 2)
    assert champion_of(waiting) == 1
    finished = approved(spark, waiting, 2)
    assert (finished.before, finished.after, champion_of(waiting)) == (1, 2, 2)
    assert marked(waiting, "Production")[1] == [2]

    refused("version 2 became champion while version 3 waited, which is no better: lower bound", "3", *because)
    rows = [row for row in decisions(spark, waiting) if row["decision"] == "approved"]
    assert [(row["challenger_version"], row["champion_version"], row["champion_after"]) for row in rows] == [
        (1, None, 1),
        (2, 1, 2),
    ]
    assert rows[0]["reason"] == "seen by 'revenue' management"
    assert "improvement_roc_auc" in rows[1]["metrics"]
    back = booking_mlops("model", "rollback", "--env-file", waiting.file, "--reason", "too many alarms")
    assert "version 1, was version 2" in back.out, back.err
    # Again better than the champion there is now, as it was when it began to wait.
    assert approve("3", *because).code == 0


def approved(spark: Any, environment: Environment, version: int) -> ModelApproveResult:
    task = make_task(ModelApprove, spark, environment, f"version={version}", "reason=agreed")
    task.session.clock = utc_now
    result: ModelApproveResult = task.run()
    return result


def test_a_job_without_a_version_says_which_wait(spark: Any, waiting: Environment) -> None:
    with pytest.raises(ApprovalRefused, match="version: name the version to approve; waiting: none"):
        make_task(ModelApprove, spark, waiting).run()
