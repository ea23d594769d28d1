"""What Databricks refuses, the workspace refuses."""

from __future__ import annotations

from typing import Any

import pytest

from local_workspace.runs.schedules import is_quartz
from tests.deploy.conftest import Server

CLUSTER = {"new_cluster": {"spark_version": "18.x-cpu-ml-scala2.13"}}
WHEEL = {"python_wheel_task": {"package_name": "tiny", "entry_point": "ok"}}
NIGHTLY = {"quartz_cron_expression": "0 0 1 * * ?", "timezone_id": "UTC"}


@pytest.mark.parametrize(
    "expression",
    ["0 0 1 * * ?", "0 0 3 ? * SUN", "0 30 2,7,11-15 * * ?", "0 0/15 8-17 ? * MON-FRI", "0 0 0 L * ?",
     "0 0 0 15W jan ?", "0 0 0 ? * 6#3 2026-2030", "0 0 0 LW * ?", "0 0 0 ? * 2L", "*/5 * * ? * *"],
)  # fmt: skip
def test_what_is_quartz(expression: str) -> None:
    assert is_quartz(expression)


@pytest.mark.parametrize(
    "expression",
    ["", "0 2 * * *", "0 0 1 * * *", "0 0 1 ? * ?", "60 0 1 * * ?", "0 0 24 * * ?", "0 0 1 32 * ?", "0 0 1 * 13 ?",
     "0 0 1 ? * 8", "0 0 1 ? * XYZ", "0 0 1 * * ? 1 1", "0 0/0 1 * * ?", "0 0 1, * * ?", "@daily", "? 0 1 * * ?"],
)  # fmt: skip
def test_what_is_not(expression: str) -> None:
    assert not is_quartz(expression)


@pytest.mark.parametrize(
    ("task", "settings", "status", "message"),
    [
        (WHEEL, {}, 400, "One of job_cluster_key, new_cluster, or existing_cluster_id must be specified."),
        ({**WHEEL, **CLUSTER, "existing_cluster_id": "x"}, {}, 400, "Only one of new_cluster and existing_cluster_id"),
        ({**WHEEL, "existing_cluster_id": "0-0-gone"}, {}, 400, "Cluster 0-0-gone does not exist"),
        (CLUSTER, {}, 400, "runs python_wheel_task only"),
        ({**CLUSTER, "python_wheel_task": {"package_name": "tiny"}}, {}, 400, "python_wheel_task.entry_point"),
        (
            {**CLUSTER, "python_wheel_task": {**WHEEL["python_wheel_task"], "parameters": ["a"],
                                              "named_parameters": {"a": "b"}}},
            {}, 400, "Only one of parameters and named_parameters",
        ),
        ({**WHEEL, **CLUSTER}, {"schedule": {**NIGHTLY, "quartz_cron_expression": "0 1 * * *"}}, 400,
         "Invalid quartz_cron_expression: 0 1 * * *. Databricks uses Quartz cron syntax"),
        ({**WHEEL, **CLUSTER}, {"schedule": {**NIGHTLY, "timezone_id": "Mars/Olympus"}}, 400,
         "Invalid timezone_id: Mars/Olympus"),
        ({**WHEEL, **CLUSTER}, {"schedule": {**NIGHTLY, "timezone_id": ""}}, 400, "settings.schedule.timezone_id"),
        ({**WHEEL, **CLUSTER}, {"schedule": {**NIGHTLY, "pause_status": "STOPPED"}}, 400, "Invalid pause_status"),
        ({**WHEEL, **CLUSTER}, {"run_as": {"service_principal_name": "nobody"}}, 404,
         "Principal: ServicePrincipalName(nobody) does not exist"),
        ({**WHEEL, **CLUSTER},
         {"access_control_list": [{"group_name": "nobodies", "permission_level": "CAN_VIEW"}]}, 404,
         "Principal: GroupName(nobodies) does not exist"),
    ],
)  # fmt: skip
def test_a_job_that_databricks_refuses(
    server: Server, task: dict[str, Any], settings: dict[str, Any], status: int, message: str
) -> None:
    full = {"name": "refused", "tasks": [{"task_key": "t", **task}], **settings}
    answer = server.call("dev", "POST", "/api/2.1/jobs/create", **full)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["message"]
    assert "refused" not in server.jobs("dev")
    if "access_control_list" not in settings:
        assert server.call("dev", "POST", "/api/2.1/jobs/runs/submit", **full).status_code == status
    job = server.tiny_job("dev", {"task_key": "t"}, job_name="changed")
    before = server.api("dev", "GET", f"jobs/get?job_id={job}")
    if "access_control_list" not in settings:
        changed = server.call("dev", "POST", "/api/2.1/jobs/reset", job_id=job, new_settings=full)
        assert changed.status_code == status
        assert server.api("dev", "GET", f"jobs/get?job_id={job}") == before
    server.api("dev", "POST", "jobs/delete", job_id=job)


@pytest.mark.parametrize("tasks", ["t", ["t"], [{}], {"task_key": "t"}])
def test_tasks_of_the_wrong_type(server: Server, tasks: Any) -> None:
    answer = server.call("dev", "POST", "/api/2.1/jobs/create", name="refused", tasks=tasks)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "path",
    [
        "experiments/999999",
        "experiments/none",
        "registered-models/none",
        "jobs/999999",
        "experiments/999999/permissionLevels",
    ],
)
def test_permissions_of_what_does_not_exist(server: Server, path: str) -> None:
    answer = server.call("dev", "GET", f"/api/2.0/permissions/{path}")
    assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_job_is_its_creators_and_one_entry_may_be_added(server: Server) -> None:
    job = server.tiny_job("dev", {"task_key": "t"}, job_name="owned")
    path = f"/api/2.0/permissions/jobs/{job}"
    entry = {"group_name": "users", "permission_level": "CAN_VIEW"}
    found = server.call("dev", "PATCH", path, access_control_list=[entry]).json()["access_control_list"]
    assert [(one.get("user_name"), one.get("group_name")) for one in found] == [
        ("developer@workspace.test", None), (None, "users"),
    ]  # fmt: skip
    levels = server.call("dev", "GET", f"{path}/permissionLevels").json()["permission_levels"]
    assert {"permission_level": "IS_OWNER"} in levels
