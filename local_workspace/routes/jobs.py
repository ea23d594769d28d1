"""Answer the Jobs API: create, change, list, delete and start jobs."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from local_workspace.errors import invalid
from local_workspace.permissions import check_principal
from local_workspace.routes.common import all_workspaces, caller, number, one_page, parameters, this_workspace
from local_workspace.runs.requests import (
    RunRequest,
    chosen_tasks,
    idempotency_token,
    job_parameters,
    overriding_parameters,
)
from local_workspace.runs.settings import check_settings, run_as, tasks_of
from local_workspace.runs.states import now
from local_workspace.store import CLUSTER, JOB, Document

blueprint = Blueprint("jobs", __name__)

_JOBS_PER_PAGE = 20


@blueprint.post("/create")
def create() -> Response:
    """Create a job, and set its permissions when the request has some."""
    workspaces, workspace, this = all_workspaces(), this_workspace(), caller()
    settings = parameters()
    access = settings.pop("access_control_list", None)
    _check(settings)
    job_id = workspaces.store.next_number()
    job = {"job_id": job_id, "creator_user_name": this.name, "created_time": now(), "settings": _stored(settings)}
    with workspaces.store.transaction():
        workspaces.store.put(workspace, JOB, job_id, job)
        owner = {"service_principal_name" if this.is_service_principal else "user_name": this.name}
        access = access or [{**owner, "permission_level": "IS_OWNER"}]
        workspaces.permissions.set(workspace, "jobs", str(job_id), access)
    return jsonify({"job_id": job_id})


@blueprint.post("/reset")
def reset() -> Response:
    """Replace a job's settings."""
    fields = parameters()
    job = _job(fields)
    settings = dict(fields.get("new_settings") or {})
    settings.pop("access_control_list", None)
    _check(settings)
    all_workspaces().store.change(this_workspace(), JOB, job["job_id"], settings=_stored(settings))
    return jsonify({})


@blueprint.post("/update")
def update() -> Response:
    """Change some of a job's settings."""
    fields = parameters()
    job = _job(fields)
    settings = {**job["settings"], **(fields.get("new_settings") or {})}
    for name in fields.get("fields_to_remove") or []:
        settings.pop(name, None)
    _check(settings)
    all_workspaces().store.change(this_workspace(), JOB, job["job_id"], settings=settings)
    return jsonify({})


@blueprint.get("/list")
def list_jobs() -> Response:
    """List jobs, or those of a name."""
    fields = parameters()
    name = fields.get("name")
    jobs = all_workspaces().store.all(this_workspace(), JOB)
    found = [job for job in jobs if not name or job["settings"]["name"].lower() == name.lower()]
    page, rest = one_page(found, fields, _JOBS_PER_PAGE)
    return jsonify({"jobs": [_described(job) for job in page], **rest} if page else rest)


@blueprint.get("/get")
def get() -> Response:
    """Return a job."""
    return jsonify(_described(_job(parameters())))


@blueprint.post("/delete")
def delete() -> Response:
    """Cancel a job's runs and delete it."""
    workspaces, workspace = all_workspaces(), this_workspace()
    job_id = _job(parameters())["job_id"]
    workspaces.engine.cancel_all(workspace, job_id)
    workspaces.store.delete(workspace, JOB, job_id)
    workspaces.permissions.delete(workspace, "jobs", job_id)
    return jsonify({})


@blueprint.post("/run-now")
def run_now() -> Response:
    """Start a run of a job."""
    fields = parameters()
    job = _job(fields)
    settings, keys = job["settings"], [task["task_key"] for task in tasks_of(job["settings"])]
    request = RunRequest(
        creator=caller().name,
        run_as=run_as(settings, job["creator_user_name"]),
        job_id=job["job_id"],
        only=chosen_tasks(fields, keys),
        overriding=overriding_parameters(fields),
        job_parameters=job_parameters(fields),
        idempotency_token=idempotency_token(fields),
    )
    run_id = all_workspaces().engine.submit(this_workspace(), settings, request)
    return jsonify({"run_id": run_id, "number_in_job": run_id})


@blueprint.post("/runs/cancel-all")
def cancel_all_runs() -> Response:
    """Cancel a job's runs."""
    all_workspaces().engine.cancel_all(this_workspace(), _job(parameters())["job_id"])
    return jsonify({})


def _job(fields: Document) -> Document:
    job = all_workspaces().store.get(this_workspace(), JOB, number(fields, "job_id"))
    if job is None:
        raise invalid(f"Job {fields['job_id']} does not exist.")
    return job


def _check(settings: Document) -> None:
    if not settings.get("name"):
        raise invalid("Job name is missing.")
    check_run(settings)


def check_run(settings: Document) -> None:
    """Refuse a job or run that could not be run as given, or that runs as somebody who does not exist.

    Raises: ApiError 400 or 404.
    """
    store, workspace = all_workspaces().store, this_workspace()
    check_settings(settings, [cluster["cluster_id"] for cluster in store.all(workspace, CLUSTER)])
    check_principal(store, workspace, settings.get("run_as") or {})


def _described(job: Document) -> Document:
    return {**job, "run_as_user_name": run_as(job["settings"], job["creator_user_name"])}


def _stored(settings: Document) -> Document:
    """Return a job's settings as they are stored: without the fields that only dbx reads."""
    kept = {key: value for key, value in settings.items() if key not in ("workflow_type", "job_id")}
    return {"format": "MULTI_TASK", "max_concurrent_runs": 1, **kept}
