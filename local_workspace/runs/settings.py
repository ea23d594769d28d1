"""Check the settings of jobs."""

from __future__ import annotations

from collections.abc import Collection

from local_workspace.errors import invalid
from local_workspace.runs.schedules import check_schedule
from local_workspace.store import Document

_COMPUTE = ("job_cluster_key", "new_cluster", "existing_cluster_id", "environment_key")
# fmt: off
_FIELDS_OF_A_SINGLE_TASK = (
    "existing_cluster_id", "new_cluster", "libraries", "python_wheel_task", "timeout_seconds", "max_retries",
)
# fmt: on


def check_settings(settings: Document, clusters: Collection[str]) -> None:
    """Refuse a job or a run that could not be run as given; `clusters` are the ids of the workspace's clusters.

    Raises: ApiError 400.
    """
    if settings.get("schedule"):
        check_schedule(settings["schedule"])
    for task in tasks_of(settings):
        key = task["task_key"]
        given = [name for name in _COMPUTE if task.get(name)]
        if not given:
            raise invalid(f"Task {key}: One of {', '.join(_COMPUTE[:2])}, or {_COMPUTE[2]} must be specified.")
        if len(given) > 1:
            raise invalid(f"Task {key}: Only one of {' and '.join(given)} may be specified.")
        cluster = task.get("existing_cluster_id")
        if cluster and cluster not in clusters:
            raise invalid(f"Task {key}: Cluster {cluster} does not exist")
        if task["python_wheel_task"].get("parameters") and task["python_wheel_task"].get("named_parameters"):
            raise invalid(f"Task {key}: Only one of parameters and named_parameters may be specified.")


def run_as(settings: Document, creator: str) -> str:
    """Return the name of the user or service principal that a job's tasks run as: its creator by default."""
    named = settings.get("run_as") or {}
    return str(named.get("service_principal_name") or named.get("user_name") or creator)


def tasks_of(settings: Document) -> list[Document]:
    """Return the tasks of a job's settings, checked; settings of the Jobs API 2.0 are one task.

    Raises: ApiError 400 when the tasks can't be run as given.
    """
    tasks = settings.get("tasks")
    if tasks is None:
        task = {key: settings[key] for key in _FIELDS_OF_A_SINGLE_TASK if key in settings}
        tasks = [{"task_key": "main", **task}]
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and task.get("task_key") for task in tasks):
        raise invalid("tasks must be a list of objects, each with a task_key.")
    names = [task.get("task_key") for task in tasks]
    if len(set(names)) != len(names):
        raise invalid("Task keys must be unique.")
    clusters = {cluster["job_cluster_key"] for cluster in settings.get("job_clusters") or []}
    environments = {one.get("environment_key") for one in settings.get("environments") or []}
    for task in tasks:
        key = task.get("task_key")
        wheel = task.get("python_wheel_task")
        if not isinstance(wheel, dict):
            raise invalid(f"Task {key}: local_workspace runs python_wheel_task only.")
        for name in ("package_name", "entry_point"):
            if not wheel.get(name):
                raise invalid(f"Task {key}: Missing required field: python_wheel_task.{name}")
        for dependency in task.get("depends_on") or []:
            if dependency["task_key"] not in names:
                raise invalid(f"Task {key} depends on {dependency['task_key']}, which is not a task of this job.")
        if task.get("job_cluster_key") and task["job_cluster_key"] not in clusters:
            raise invalid(f"Task {key}: job cluster {task['job_cluster_key']} is not defined in field job_clusters.")
        if task.get("environment_key") and task["environment_key"] not in environments:
            raise invalid(f"Task {key}: environment {task['environment_key']} is not defined in field environments.")
        if task.get("environment_key") and task.get("libraries"):
            raise invalid(f"Task {key}: Libraries field is not supported for serverless task, please specify libraries "
                          "in environment.")  # fmt: skip
    _refuse_circles(tasks)
    return list(tasks)


def _refuse_circles(tasks: list[Document]) -> None:
    waiting = {task["task_key"]: {need["task_key"] for need in task.get("depends_on") or []} for task in tasks}
    done: set[str] = set()
    while ready := {key for key, needs in waiting.items() if needs <= done and key not in done}:
        done |= ready
    if len(done) != len(waiting):
        raise invalid("Tasks depend on each other in a circle.")
