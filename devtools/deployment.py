"""Find mistakes in a deployment file: dbx accepts any key in it, and looks names up only when it deploys."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from devtools import clusters
from local_workspace.errors import ApiError
from local_workspace.runs.schedules import check_schedule

Tree = Mapping[str, Any]

_TOP_KEYS = {"build", "custom", "environments"}
# The fields of the Jobs API 2.1 that fit the kind of jobs this project has.
_JOB_KEYS = {
    *("name", "tasks", "job_clusters", "schedule", "continuous", "trigger", "email_notifications"),
    *("webhook_notifications", "notification_settings", "timeout_seconds", "max_concurrent_runs", "tags", "run_as"),
    *("access_control_list", "git_source", "format", "health", "parameters", "queue", "workflow_type", "description"),
    "environments",
}
_TASK_KEYS = {
    *("task_key", "description", "depends_on", "existing_cluster_id", "new_cluster", "job_cluster_key", "libraries"),
    *("python_wheel_task", "spark_python_task", "notebook_task", "email_notifications", "timeout_seconds"),
    *("max_retries", "min_retry_interval_millis", "retry_on_timeout", "deployment_config", "run_if", "environment_key"),
}
_WHEEL_KEYS = {"package_name", "entry_point", "parameters"}
_SCHEDULE_KEYS = {"quartz_cron_expression", "timezone_id", "pause_status"}
_FILE_PREFIXES = ("file:fuse://", "file://")
_PROD = "prod"


def check(
    deployment: Tree,
    *,
    entry_points: Collection[str],
    environments: Sequence[str],
    project: Tree,
    file_exists: Callable[[str], bool],
) -> list[str]:
    """Return every problem, each in one line that says where it is.

    `deployment` is the rendered deployment.yml, `entry_points` are the wheel's, `environments` those with a file in
    conf/envs, `project` is .dbx/project.json; `file_exists` takes a path relative to the project.
    """
    problems = list(_unknown("the file", deployment, _TOP_KEYS))
    found = deployment.get("environments")
    if not isinstance(found, dict) or not found:
        return [*problems, "no environments"]
    for environment, content in found.items():
        if environment not in environments:
            problems.append(f"{environment}: there is no conf/envs/{environment}.yml")
        if environment not in (project.get("environments") or {}):
            problems.append(f"{environment}: .dbx/project.json does not know it")
        artifacts = _artifacts(project, environment)
        workflows = content.get("workflows") if isinstance(content, dict) else None
        if not workflows:
            problems.append(f"{environment}: no workflows")
            continue
        problems += _unknown(environment, content, {"workflows"})
        names = [workflow.get("name") for workflow in workflows]
        problems += [f"{environment}: two workflows named {name}" for name in {n for n in names if names.count(n) > 1}]
        for workflow in workflows:
            where = f"{environment}: {workflow.get('name') or 'a workflow without a name'}"
            problems += [f"{where}: {problem}" for problem in _workflow(workflow, environment, entry_points)]
            problems += [
                f"{where}: {place}: {problem}"
                for place, cluster in clusters.clusters_of(workflow)
                for problem in clusters.problems(cluster, artifacts)
            ]
            problems += [f"{where}: {problem}" for problem in clusters.environment_problems(workflow)]
            problems += [
                f"{where}: {reference} does not exist"
                for reference in dict.fromkeys(_file_references(workflow))
                if not file_exists(reference.partition("://")[2])
            ]
        if environment == _PROD and not any(_scheduled(workflow) for workflow in workflows):
            problems.append(f"{environment}: no workflow has a schedule that is not paused")
    return problems


def _workflow(workflow: Tree, environment: str, entry_points: Collection[str]) -> Iterator[str]:
    yield from _unknown("the workflow", workflow, _JOB_KEYS)
    name = str(workflow.get("name", ""))
    if not name.startswith(f"{environment}-"):
        yield f"the name does not begin with '{environment}-'; environments that share a workspace would share the job"
    tasks = workflow.get("tasks") or []
    if not tasks:
        yield "no tasks"
    keys = [task.get("task_key") for task in tasks]
    for key in {key for key in keys if keys.count(key) > 1}:
        yield f"two tasks named {key}"
    for task in tasks:
        for problem in (*_task(task, keys, entry_points), *clusters.task_problems(task, workflow)):
            yield f"task {task.get('task_key')}: {problem}"
    yield from _cycle(tasks)
    if "schedule" in workflow:
        yield from _unknown("schedule", workflow["schedule"], _SCHEDULE_KEYS)
        try:
            check_schedule(workflow["schedule"])
        except ApiError as error:
            yield error.message
        if environment != _PROD and _scheduled(workflow):
            yield "its schedule is not paused; only prod runs on its own"
    if environment == _PROD:
        if not (workflow.get("run_as") or {}).get("service_principal_name"):
            yield "run_as names no service principal"
        owners = [
            entry for entry in workflow.get("access_control_list") or [] if entry.get("permission_level") == "IS_OWNER"
        ]
        if len(owners) != 1:
            yield "access_control_list needs one IS_OWNER"
        if workflow.get("max_concurrent_runs") != 1:
            yield "max_concurrent_runs is not 1"


def _task(task: Tree, keys: Sequence[Any], entry_points: Collection[str]) -> Iterator[str]:
    yield from _unknown("the task", task, _TASK_KEYS)
    for dependency in task.get("depends_on") or []:
        if dependency.get("task_key") not in keys:
            yield f"depends_on {dependency.get('task_key')}, which is no task of this workflow"
    wheel = task.get("python_wheel_task")
    if wheel is None:
        yield "no python_wheel_task"
        return
    yield from _unknown("python_wheel_task", wheel, _WHEEL_KEYS)
    if wheel.get("entry_point") not in entry_points:
        close = difflib.get_close_matches(str(wheel.get("entry_point")), entry_points, n=1)
        yield f"the wheel has no entry point {wheel.get('entry_point')}" + (
            f"; did you mean {close[0]}?" if close else ""
        )


def _cycle(tasks: Sequence[Tree]) -> Iterator[str]:
    waiting = {task.get("task_key"): {d.get("task_key") for d in task.get("depends_on") or []} for task in tasks}
    known = set(waiting)
    done: set[Any] = set()
    while ready := {key for key, needs in waiting.items() if not (needs & known) - done}:
        done |= ready
        waiting = {key: needs for key, needs in waiting.items() if key not in ready}
    if waiting:
        yield f"tasks wait for each other: {', '.join(sorted(map(str, waiting)))}"


def _artifacts(project: Tree, environment: str) -> str:
    """Return where dbx uploads an environment's files."""
    known = (project.get("environments") or {}).get(environment) or {}
    return str((known.get("properties") or {}).get("artifact_location") or "")


def _scheduled(workflow: Tree) -> bool:
    schedule = workflow.get("schedule") or {}
    # Databricks runs a schedule that has no pause_status.
    return bool(schedule) and schedule.get("pause_status", "UNPAUSED") == "UNPAUSED"


def _file_references(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith(_FILE_PREFIXES):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _file_references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _file_references(inner)


def _unknown(where: str, tree: Tree, known: Collection[str]) -> Iterator[str]:
    for key in tree:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            yield f"{where} has an unknown key '{key}'" + (f"; did you mean '{close[0]}'?" if close else "")
