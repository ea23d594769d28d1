"""What `deployment plan` finds between two descriptions of jobs."""

from __future__ import annotations

import copy
from typing import Any

from devtools.plan import Change, described, plan

WORKFLOW: dict[str, Any] = {
    "name": "prod-train",
    "max_concurrent_runs": 1,
    "schedule": {"quartz_cron_expression": "0 0 1 * * ?", "timezone_id": "UTC", "pause_status": "UNPAUSED"},
    "run_as": {"service_principal_name": "id"},
    "access_control_list": [{"group_name": "users", "permission_level": "CAN_VIEW"}],
    "job_clusters": [{"job_cluster_key": "c", "new_cluster": {"spark_version": "18", "num_workers": 1}}],
    "tasks": [
        {"task_key": "a", "python_wheel_task": {"parameters": ["--conf-file", "file:fuse://conf/tasks/a.yml"]}},
        {"task_key": "b", "depends_on": [{"task_key": "a"}], "max_retries": 0},
    ],
}


def deployed() -> dict[str, Any]:
    """The workflow as a workspace has it: with uploaded files, and with what it fills in."""
    job = copy.deepcopy(WORKFLOW)
    folder = "Volumes/prod/deployments/booking_mlops/dbx/3f0/artifacts"
    job["run_as"]["run_as"] = "id"
    job |= {"format": "MULTI_TASK", "timeout_seconds": 0, "email_notifications": {}, "workflow_type": "job-v2.1"}
    job["job_clusters"][0]["new_cluster"]["aws_attributes"] = {"zone_id": "auto"}
    job["tasks"][0]["python_wheel_task"]["parameters"][1] = f"/dbfs/{folder}/conf/tasks/a.yml"
    for task in job["tasks"]:
        task["run_if"] = "ALL_SUCCESS"
        task["libraries"] = [{"whl": f"dbfs:/{folder}/dist/x-1.whl"}]
    return job


def test_what_was_deployed_from_the_file_stays_as_it_is() -> None:
    (only,) = plan([WORKFLOW], [deployed()], "x-1.whl", "prod")
    assert (only.action, only.changes) == ("keep", ())


def test_each_field_that_differs_is_named() -> None:
    wanted = copy.deepcopy(WORKFLOW)
    wanted["schedule"]["quartz_cron_expression"] = "0 0 2 * * ?"
    wanted["tasks"][1]["max_retries"] = 2
    wanted["job_clusters"][0]["new_cluster"]["num_workers"] = 4
    wanted["access_control_list"][0]["permission_level"] = "CAN_MANAGE"
    there = deployed()
    there["tags"] = {"team": "ml"}
    (only,) = plan([wanted], [there], "x-2.whl", "prod")
    assert only.action == "change"
    assert set(only.changes) == {
        Change("schedule.quartz_cron_expression", "0 0 1 * * ?", "0 0 2 * * ?"),
        Change("tasks[b].max_retries", None, 2),
        Change("job_clusters[c].new_cluster.num_workers", 1, 4),
        Change("access_control_list[users].permission_level", "CAN_VIEW", "CAN_MANAGE"),
        Change("tasks[a].libraries[0].whl", "dist/x-1.whl", "dist/x-2.whl"),
        Change("tasks[b].libraries[0].whl", "dist/x-1.whl", "dist/x-2.whl"),
        Change("tags.team", "ml", None),
    }
    assert "    tasks[b].max_retries: none → 2" in described([only])


def test_jobs_are_created_and_left() -> None:
    new, old, others = {"name": "prod-new", "tasks": []}, {"name": "prod-old"}, {"name": "of-somebody"}
    plans = plan([new], [old, others], "x-1.whl", "prod")
    assert described(plans) == [
        "+ prod-new: would be created",
        "? prod-old: is not in the deployment file; dbx leaves it",
    ]


def test_permissions_that_the_file_does_not_mention_are_left() -> None:
    wanted = {key: value for key, value in WORKFLOW.items() if key != "access_control_list"}
    assert plan([wanted], [deployed()], "x-1.whl", "prod")[0].action == "keep"
