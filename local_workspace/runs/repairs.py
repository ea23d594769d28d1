"""Choose the tasks that the repair of a run runs again, and describe the repairs of a run."""

from __future__ import annotations

from local_workspace.errors import ApiError, invalid
from local_workspace.runs.requests import chosen_tasks
from local_workspace.runs.states import ended, succeeded
from local_workspace.store import Document


def tasks_to_rerun(fields: Document, run: Document, tasks: list[Document]) -> set[str]:
    """Return the keys of the tasks that a request to repair a run asks for.

    `tasks` are the latest task runs of the run.

    Raises: ApiError 400 when the run is under way, when the request names no tasks or wrong ones, and when it does not
    know of the latest repair.
    """
    if not ended(run):
        raise ApiError(400, "INVALID_STATE", f"Run {run['run_id']} can't be repaired while it is active.")
    repairs = run.get("repairs") or []
    if repairs and str(fields.get("latest_repair_id") or "") != str(repairs[-1]["id"]):
        raise invalid(f"latest_repair_id must be {repairs[-1]['id']}, the id of the latest repair of this run.")
    results = {task["task_key"]: task for task in tasks}
    named, failed = set(chosen_tasks(fields, results, "rerun_tasks")), bool(fields.get("rerun_all_failed_tasks"))
    if bool(named) == failed:
        raise invalid("Exactly one of rerun_tasks and rerun_all_failed_tasks must be given.")
    if failed:
        named = {key for key, task in results.items() if not succeeded(task)}
        if not named:
            raise invalid(f"Run {run['run_id']} has no failed task to run again.")
    return _with_dependents(named, tasks) if fields.get("rerun_dependent_tasks") else named


def _with_dependents(keys: set[str], tasks: list[Document]) -> set[str]:
    found = set(keys)
    while True:
        more = {
            task["task_key"]
            for task in tasks
            if any(need["task_key"] in found for need in task.get("depends_on") or [])
        }
        if more <= found:
            return found
        found |= more


def history(run: Document, tasks: list[Document]) -> list[Document]:
    """Return a run's original attempt and its repairs, oldest first, as the Jobs API describes them.

    `tasks` are all task runs of the run.
    """
    repairs = run.get("repairs") or []
    repaired = {task_run_id for repair in repairs for task_run_id in repair["task_run_ids"]}
    original = {
        "type": "ORIGINAL",
        "start_time": run["start_time"],
        "end_time": run["first_end_time"] if repairs else run["end_time"],
        "state": run["first_state"] if repairs else run["state"],
        "task_run_ids": [task["run_id"] for task in tasks if task["run_id"] not in repaired],
    }
    return [original, *({"type": "REPAIR", **repair} for repair in repairs)]
