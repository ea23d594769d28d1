"""Answer the Jobs API's routes of runs: submit, describe, list and cancel them, and read their output."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from rich.markup import escape

from local_workspace.addresses import OWNER
from local_workspace.routes.common import all_workspaces, is_true, number, one_page, parameters, this_workspace
from local_workspace.runs.states import ended

blueprint = Blueprint("runs", __name__)

_RUNS_PER_PAGE = 20
# dbx 0.8.19 calls itself by the name it had at first.
_USER_AGENT_OF_DBX = "cicdtemplates"


@blueprint.post("/runs/submit")
def submit() -> Response:
    """Start a run that belongs to no job."""
    run_id = all_workspaces().engine.submit(this_workspace(), parameters(), job_id=None, user=OWNER)
    return jsonify({"run_id": run_id})


@blueprint.get("/runs/get")
def get() -> Response:
    """Return a run with its tasks, or a task run."""
    return jsonify(all_workspaces().records.get(this_workspace(), number(parameters(), "run_id")))


@blueprint.get("/runs/list")
def list_runs() -> Response:
    """List runs, newest first; of one job, only active or only completed ones when the request says so."""
    fields, records = parameters(), all_workspaces().records
    job_id = number(fields, "job_id") if fields.get("job_id") else None
    found = records.newest_first(this_workspace(), job_id=job_id)
    if is_true(fields, "active_only"):
        found = [run for run in found if not ended(run)]
    if is_true(fields, "completed_only"):
        found = [run for run in found if ended(run)]
    page, rest = one_page(found, fields, _RUNS_PER_PAGE)
    described = [records.get(this_workspace(), run["run_id"]) for run in page]
    for run in described:
        del run["tasks"]
    return jsonify({"runs": described, **rest} if described else rest)


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


@blueprint.post("/runs/cancel")
def cancel() -> Response:
    """Cancel a run."""
    all_workspaces().engine.cancel(this_workspace(), number(parameters(), "run_id"))
    return jsonify({})
