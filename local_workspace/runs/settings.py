"""Check the settings of jobs."""

from __future__ import annotations

from local_workspace.errors import invalid
from local_workspace.store import Document

# fmt: off
_FIELDS_OF_A_SINGLE_TASK = (
    "existing_cluster_id", "new_cluster", "libraries", "python_wheel_task", "timeout_seconds", "max_retries",
)
# fmt: on


def check_settings(settings: Document) -> None:
    """Refuse a job that could not be run.

    Raises: ApiError 400.
    """
    if not settings.get("name"):
        raise invalid("Job name is missing.")
    tasks_of(settings)


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
    names = [task.get("task_key") for task in tasks]
    if len(set(names)) != len(names):
        raise invalid("Task keys must be unique.")
    clusters = {cluster["job_cluster_key"] for cluster in settings.get("job_clusters") or []}
    for task in tasks:
        key = task.get("task_key")
        if not task.get("python_wheel_task"):
            raise invalid(f"Task {key}: local_workspace runs python_wheel_task only.")
        for dependency in task.get("depends_on") or []:
            if dependency["task_key"] not in names:
                raise invalid(f"Task {key} depends on {dependency['task_key']}, which is not a task of this job.")
        if task.get("job_cluster_key") and task["job_cluster_key"] not in clusters:
            raise invalid(f"Task {key}: job cluster {task['job_cluster_key']} is not defined in field job_clusters.")
    _refuse_circles(tasks)
    return list(tasks)


def _refuse_circles(tasks: list[Document]) -> None:
    waiting = {task["task_key"]: {need["task_key"] for need in task.get("depends_on") or []} for task in tasks}
    done: set[str] = set()
    while ready := {key for key, needs in waiting.items() if needs <= done and key not in done}:
        done |= ready
    if len(done) != len(waiting):
        raise invalid("Tasks depend on each other in a circle.")
