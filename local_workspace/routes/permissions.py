"""Answer the Permissions API for jobs, experiments and registered models."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from local_workspace.errors import invalid, not_found
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
    if kind == "jobs" and workspaces.store.get(workspace, JOB, identifier) is None:
        raise not_found(f"Job {identifier} does not exist.")
    if request.method in ("PUT", "PATCH"):
        change = workspaces.permissions.update if request.method == "PATCH" else workspaces.permissions.set
        change(workspace, kind, identifier, parameters().get("access_control_list") or [])
    return jsonify(workspaces.permissions.describe(workspace, kind, identifier))
