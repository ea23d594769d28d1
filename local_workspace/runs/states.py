"""Build and read the states of runs, as the Jobs API writes them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from local_workspace.store import Document

_ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")


def now() -> int:
    """Return the present time in milliseconds since 1970, as the Jobs API counts."""
    return int(time.time() * 1000)


def state(life_cycle: str, result: str | None = None, message: str = "") -> Document:
    """Return the state of a run or task run; one that has not ended has no result."""
    found: Document = {"life_cycle_state": life_cycle, "state_message": message, "user_cancelled_or_timedout": False}
    if result:
        found["result_state"] = result
    if result in ("CANCELED", "TIMEDOUT"):
        found["user_cancelled_or_timedout"] = True
    return found


def ended(run: Mapping[str, Any]) -> bool:
    """Return whether a run or task run has ended."""
    return run["state"]["life_cycle_state"] in _ENDED


def succeeded(run: Mapping[str, Any]) -> bool:
    """Return whether a run or task run has ended with success."""
    return bool(run["state"].get("result_state") == "SUCCESS")


_TERMINATIONS = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "CANCELED": ("USER_CANCELED", "CLIENT_ERROR"),
    "TIMEDOUT": ("CANCELED", "CLIENT_ERROR"),
    "UPSTREAM_FAILED": ("SKIPPED", "CLIENT_ERROR"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
    "FAILED": ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
}


def status(run: Mapping[str, Any]) -> Document:
    """Return what newer clients read instead of the state of a run or task run: its state, and why it has ended."""
    found = run["state"]
    if not ended(run):
        return {"state": found["life_cycle_state"]}
    code, kind = _TERMINATIONS[found["result_state"]]
    # A run whose task failed ends with INTERNAL_ERROR too; a task run only when the workspace could not run it.
    if found["life_cycle_state"] == "INTERNAL_ERROR" and "parent_run_id" in run:
        code, kind = "INTERNAL_ERROR", "INTERNAL_ERROR"
    details = {"code": code, "type": kind, "message": found["state_message"]}
    return {"state": "TERMINATED", "termination_details": details}


def overall_state(tasks: list[Document], *, cancelled: bool, timed_out: bool) -> Document:
    """Return the state of a run whose task runs have all ended."""
    if timed_out:
        return state("TERMINATED", "TIMEDOUT", "The run took longer than its timeout.")
    if all(succeeded(task) for task in tasks):
        return state("TERMINATED", "SUCCESS")
    if cancelled:
        return state("TERMINATED", "CANCELED", "The run was canceled.")
    failed = [task["task_key"] for task in tasks if task["state"].get("result_state") in ("FAILED", "TIMEDOUT")]
    return state(
        "INTERNAL_ERROR", "FAILED", f"Task {', '.join(failed)} failed. This caused all downstream tasks to be skipped."
    )
