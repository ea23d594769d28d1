"""Answer the Permissions API for jobs, experiments and registered models."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from local_workspace.errors import invalid, not_found
from local_workspace.mlflow_server import has_experiment, has_registered_model
from local_workspace.permissions import LEVELS
from local_workspace.routes.common import all_workspaces, parameters, this_workspace
from local_workspace.store import JOB

blueprint = Blueprint("permissions", __name__)


@blueprint.route("/api/2.0/permissions/<kind>/<identifier>", methods=["GET", "PUT", "PATCH"])
def object_permissions(kind: str, identifier: str) -> Response:
    """Return the permissions of an object, after replacing (PUT) or updating (PATCH) them."""
    workspaces, workspace = all_workspaces(), this_workspace()
    if kind not in LEVELS:
        raise invalid(f"Permissions of {kind} are not supported by local_workspace")
    _refuse_missing(kind, identifier)
    if request.method in ("PUT", "PATCH"):
        change = workspaces.permissions.update if request.method == "PATCH" else workspaces.permissions.set
        change(workspace, kind, identifier, parameters().get("access_control_list") or [])
    return jsonify(workspaces.permissions.describe(workspace, kind, identifier))


@blueprint.get("/api/2.0/permissions/<kind>/<identifier>/permissionLevels")
def permission_levels(kind: str, identifier: str) -> Response:
    """Return the levels that an entry for an object may have."""
    if kind not in LEVELS:
        raise invalid(f"Permissions of {kind} are not supported by local_workspace")
    _refuse_missing(kind, identifier)
    return jsonify({"permission_levels": [{"permission_level": level} for level in LEVELS[kind]]})


def _refuse_missing(kind: str, identifier: str) -> None:
    workspace = this_workspace()
    if kind == "jobs" and all_workspaces().store.get(workspace, JOB, identifier) is None:
        raise not_found(f"Job {identifier} does not exist.")
    if kind == "experiments" and not has_experiment(workspace, identifier):
        raise not_found(f"Node ID {identifier} does not exist.")
    if kind == "registered-models" and not has_registered_model(workspace, identifier):
        raise not_found(f"RegisteredModel {identifier} does not exist.")
