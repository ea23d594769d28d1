"""Answer the Jobs API's routes of runs: submit, describe, list and cancel them, and read their output."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from rich.markup import escape

from local_workspace.errors import invalid
from local_workspace.routes.common import (
    all_workspaces,
    caller,
    is_true,
    number,
    one_page,
    parameters,
    this_workspace,
)
from local_workspace.routes.jobs import check_run
from local_workspace.runs.requests import RunRequest, idempotency_token
from local_workspace.runs.settings import run_as
from local_workspace.runs.states import ended
from local_workspace.store import Document

blueprint = Blueprint("runs", __name__)

_RUNS_PER_PAGE = 20
# dbx 0.8.19 calls itself by the name it had at first.
_USER_AGENT_OF_DBX = "cicdtemplates"


@blueprint.post("/runs/submit")
def submit() -> Response:
    """Start a run that belongs to no job."""
    settings, creator = parameters(), caller().name
    check_run(settings)
    request = RunRequest(
        creator=creator, run_as=run_as(settings, creator), idempotency_token=idempotency_token(settings)
    )
    return jsonify({"run_id": all_workspaces().engine.submit(this_workspace(), settings, request)})


@blueprint.get("/runs/get")
def get() -> Response:
    """Return a run with its tasks, or a task run; with the run's repairs when the request says so."""
    fields = parameters()
    run = all_workspaces().records.get(this_workspace(), number(fields, "run_id"))
    if not is_true(fields, "include_history"):
        run.pop("repair_history", None)
    return jsonify(run)


@blueprint.get("/runs/list")
def list_runs() -> Response:
    """List runs, newest first: of one job, of a time, only active or only completed ones when the request says so."""
    fields, records = parameters(), all_workspaces().records
    job_id = number(fields, "job_id") if fields.get("job_id") else None
    found = [run for run in records.newest_first(this_workspace(), job_id=job_id) if _is_asked_for(run, fields)]
    page, rest = one_page(found, fields, _RUNS_PER_PAGE)
    described = [records.get(this_workspace(), run["run_id"]) for run in page]
    for run in described:
        del run["repair_history"]
        if not is_true(fields, "expand_tasks"):
            del run["tasks"]
    return jsonify({"runs": described, **rest} if described else rest)


def _is_asked_for(run: Document, fields: Document) -> bool:
    active, completed = is_true(fields, "active_only"), is_true(fields, "completed_only")
    if active and completed:
        raise invalid("Only one of active_only and completed_only may be true.")
    return not (
        (active and ended(run))
        or (completed and not ended(run))
        or (fields.get("start_time_from") and run["start_time"] < number(fields, "start_time_from"))
        or (fields.get("start_time_to") and run["start_time"] > number(fields, "start_time_to"))
        or (fields.get("run_type") and run["run_type"] != fields["run_type"])
    )


@blueprint.get("/runs/get-output")
def get_output() -> Response:
    """Return a task run's output."""
    output = all_workspaces().records.output(this_workspace(), number(parameters(), "run_id"))
    if _USER_AGENT_OF_DBX in request.headers.get("User-Agent", ""):
        # dbx prints these texts as rich's markup, which would take a bracket in a log for a tag.
        for name in ("logs", "error", "error_trace"):
            if name in output:
                output[name] = escape(output[name])
    return jsonify(output)


@blueprint.post("/runs/repair")
def repair() -> Response:
    """Run tasks of a run again."""
    fields = parameters()
    return jsonify({"repair_id": all_workspaces().engine.repair(this_workspace(), number(fields, "run_id"), fields)})


@blueprint.get("/runs/export")
def export() -> Response:
    """Refuse to export a run: only a notebook's can be, and no task here is one."""
    run_id = number(parameters(), "run_id")
    all_workspaces().records.get(this_workspace(), run_id)
    raise invalid(f"Run {run_id} is not a notebook run; only those can be exported.")


@blueprint.post("/runs/delete")
def delete() -> Response:
    """Delete a run that has ended."""
    all_workspaces().records.delete(this_workspace(), number(parameters(), "run_id"))
    return jsonify({})


@blueprint.post("/runs/cancel")
def cancel() -> Response:
    """Cancel a run."""
    all_workspaces().engine.cancel(this_workspace(), number(parameters(), "run_id"))
    return jsonify({})
