"""Runs as the current SDK starts, waits for, repairs and reads them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, OperationFailed, ResourceDoesNotExist
from databricks.sdk.service.jobs import JobParameterDefinition, Run, RunTask

from tests.deploy.conftest import Server

Client = Callable[..., WorkspaceClient]
SOON = timedelta(minutes=4)


def after(*keys: str) -> dict[str, Any]:
    return {"depends_on": [{"task_key": key} for key in keys]}


def wheel(**more: Any) -> dict[str, Any]:
    return {"python_wheel_task": {"package_name": "tiny", "entry_point": "ok", **more}}


def by_key(run: Run) -> dict[str | None, RunTask]:
    return {task.task_key: task for task in run.tasks or []}


def printed(client: WorkspaceClient, run: Run) -> str:
    (task,) = by_key(run).values()
    return str(client.jobs.get_run_output(task.run_id or 0).logs).splitlines()[-1]


class TestParameters:
    def test_named_parameters_job_parameters_and_references_reach_the_task(
        self, server: Server, client: Client
    ) -> None:
        jobs = client("dev").jobs
        job = server.tiny_job(
            "dev",
            {"task_key": "t", **wheel(named_parameters={"day": "{{job.parameters.day}}", "size": "1"})},
            job_name="named",
            parameters=[JobParameterDefinition(default="monday", name="day").as_dict()],
        )
        assert "['--day=monday', '--size=1']" in printed(client("dev"), jobs.run_now_and_wait(job, timeout=SOON))
        run = jobs.run_now_and_wait(job, job_parameters={"day": "friday"}, timeout=SOON)
        assert "['--day=friday', '--size=1']" in printed(client("dev"), run)
        (parameter,) = run.job_parameters or []
        assert (parameter.name, parameter.default, parameter.value) == ("day", "monday", "friday")
        run = jobs.run_now_and_wait(job, python_named_params={"size": "2"}, timeout=SOON)
        assert "['--day=monday', '--size=2']" in printed(client("dev"), run)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"notebook_params": {"a": "b"}}, "no task that takes notebook_params"),
            ({"jar_params": ["a"]}, "no task that takes jar_params"),
            ({"python_params": ["a"], "python_named_params": {"a": "b"}}, "Only one of"),
            ({"only": ["nowhere"]}, "Task nowhere in only does not exist"),
            ({"idempotency_token": "x" * 65}, "at most 64 characters, got 65"),
        ],
    )
    def test_what_the_tasks_do_not_take_is_refused(
        self, server: Server, client: Client, given: dict[str, Any], message: str
    ) -> None:
        job = server.tiny_job("dev", {"task_key": "t"}, job_name="strict")
        with pytest.raises(BadRequest, match=message):
            client("dev").jobs.run_now(job, **given)
        assert list(client("dev").jobs.list_runs(job_id=job)) == []

    def test_only_some_tasks_run(self, server: Server, client: Client) -> None:
        job = server.tiny_job(
            "dev", {"task_key": "a", "does": "fail"}, {"task_key": "b", **after("a")}, {"task_key": "c", **after("b")},
            job_name="three",
        )  # fmt: skip
        run = client("dev").jobs.run_now_and_wait(job, only=["b", "c"], timeout=SOON)
        assert set(by_key(run)) == {"b", "c"}
        assert client("dev").jobs.get_run(run.run_id or 0).status.state.value == "TERMINATED"  # type: ignore[union-attr]

    def test_a_request_sent_twice_starts_one_run(self, server: Server, client: Client) -> None:
        job = server.tiny_job("dev", {"task_key": "t"}, job_name="once", max_concurrent_runs=9)
        first, again, other = (
            client("dev").jobs.run_now(job, idempotency_token=token).run_id for token in ("a", "a", "b")
        )
        assert first == again != other
        assert len(list(client("dev").jobs.list_runs(job_id=job))) == 2


class TestDescriptions:
    def test_times_add_up_and_the_status_says_why_a_run_ended(self, server: Server, client: Client) -> None:
        jobs = client("dev").jobs
        job = server.tiny_job(
            "dev", {"task_key": "ok"}, {"task_key": "bad", "does": "fail", **after("ok")},
            {"task_key": "never", **after("bad")}, job_name="described",
        )  # fmt: skip
        run_id = jobs.run_now(job).run_id
        with pytest.raises(OperationFailed):
            jobs.wait_get_run_job_terminated_or_skipped(run_id, timeout=SOON)
        run: Any = jobs.get_run(run_id)
        tasks: Any = by_key(run)
        for task in (tasks["ok"], tasks["bad"]):
            assert task.execution_duration > 0
            assert task.setup_duration + task.execution_duration == task.end_time - task.start_time
        assert run.run_duration == run.end_time - run.start_time >= tasks["ok"].execution_duration
        codes = {key: task.status.termination_details.code.value for key, task in tasks.items()}
        assert codes == {"ok": "SUCCESS", "bad": "RUN_EXECUTION_ERROR", "never": "SKIPPED"}
        assert run.status.termination_details.type.value == "CLIENT_ERROR"

    def test_runs_are_listed_by_time_and_with_tasks_when_asked(self, server: Server, client: Client) -> None:
        jobs = client("dev").jobs
        job = server.tiny_job("dev", {"task_key": "t"}, job_name="listed")
        first = jobs.run_now_and_wait(job, timeout=SOON).run_id
        between = int(time.time() * 1000)
        time.sleep(0.01)
        second = jobs.run_now_and_wait(job, timeout=SOON).run_id
        assert [run.run_id for run in jobs.list_runs(job_id=job, start_time_from=between)] == [second]
        assert [run.run_id for run in jobs.list_runs(job_id=job, start_time_to=between)] == [first]
        assert [task.task_key for run in jobs.list_runs(job_id=job, expand_tasks=True) for task in run.tasks or []]
        with pytest.raises(BadRequest, match="Only one of active_only and completed_only"):
            list(jobs.list_runs(job_id=job, active_only=True, completed_only=True))

    def test_a_run_is_deleted_when_it_has_ended(self, server: Server, client: Client) -> None:
        jobs = client("dev").jobs
        job = server.tiny_job("dev", {"task_key": "t", "does": "sleep"}, job_name="deleted")
        run_id = jobs.run_now(job).run_id
        with pytest.raises(BadRequest, match="while it is active"):
            jobs.delete_run(run_id)
        jobs.cancel_run_and_wait(run_id, timeout=SOON)
        assert jobs.get_run(run_id).status.termination_details.code.value == "USER_CANCELED"  # type: ignore[union-attr]
        jobs.delete_run(run_id)
        with pytest.raises(ResourceDoesNotExist):
            jobs.get_run(run_id)


class TestRepair:
    def test_the_failed_tasks_run_again_and_the_others_do_not(self, server: Server, client: Client) -> None:
        jobs = client("dev").jobs
        job = server.tiny_job(
            "dev", {"task_key": "a"}, {"task_key": "b", "does": "second_run", **after("a")},
            {"task_key": "c", **after("b")}, job_name="repaired",
        )  # fmt: skip
        run_id = jobs.run_now(job).run_id
        with pytest.raises(OperationFailed):
            jobs.wait_get_run_job_terminated_or_skipped(run_id, timeout=SOON)
        first: Any = by_key(jobs.get_run(run_id))
        waiting = jobs.repair_run(run_id, rerun_all_failed_tasks=True)
        done: Any = waiting.result(timeout=SOON)
        assert done.state.result_state.value == "SUCCESS"
        run: Any = jobs.get_run(run_id, include_history=True)
        assert [task.attempt_number for task in run.tasks] == [0, 0, 0, 1, 1]
        assert by_key(run)["a"].run_id == first["a"].run_id
        original, repair = run.repair_history
        assert (original.type.value, original.state.result_state.value) == ("ORIGINAL", "FAILED")
        assert original.task_run_ids == [task.run_id for task in first.values()]
        assert (repair.type.value, repair.state.result_state.value) == ("REPAIR", "SUCCESS")
        assert repair.id == waiting.response.repair_id
        for given, message in (
            ({"rerun_tasks": ["a"]}, f"latest_repair_id must be {repair.id}"),
            ({"latest_repair_id": repair.id, "rerun_tasks": ["x"]}, "Task x in rerun_tasks does not exist"),
            ({"latest_repair_id": repair.id}, "Exactly one of"),
            ({"latest_repair_id": repair.id, "rerun_all_failed_tasks": True}, "has no failed task"),
        ):
            with pytest.raises(BadRequest, match=message):
                jobs.repair_run(run_id, **given)
        again: Any = jobs.repair_run(
            run_id, latest_repair_id=repair.id, rerun_tasks=["b"], rerun_dependent_tasks=True
        ).result(timeout=SOON)
        assert [task.attempt_number for task in again.tasks] == [0, 0, 0, 1, 1, 2, 2]

    def test_a_run_under_way_is_not_repaired_and_a_cancelled_one_is(self, server: Server, client: Client) -> None:
        jobs = client("dev").jobs
        job = server.tiny_job("dev", {"task_key": "t", "does": "jvm_then_wait"}, job_name="cancelled, repaired")
        run_id = jobs.run_now(job).run_id
        with pytest.raises(BadRequest, match="while it is active"):
            jobs.repair_run(run_id, rerun_tasks=["t"])
        jobs.cancel_run_and_wait(run_id, timeout=SOON)
        done: Any = jobs.repair_run(run_id, rerun_tasks=["t"]).result(timeout=SOON)
        assert done.state.result_state.value == "SUCCESS"
        with pytest.raises(ResourceDoesNotExist):
            jobs.repair_run(10**9, rerun_tasks=["t"])
