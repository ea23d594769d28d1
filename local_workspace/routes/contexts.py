"""Answer the Command Execution API 1.2, which `dbx execute` calls."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from local_workspace.errors import ApiError
from local_workspace.routes.common import all_workspaces, caller, parameters, text, this_workspace
from local_workspace.store import CLUSTER

blueprint = Blueprint("contexts", __name__)


@blueprint.post("/api/1.2/contexts/create")
def create_context() -> Response:
    """Start a Python on a cluster that is running."""
    fields, workspaces, workspace = parameters(), all_workspaces(), this_workspace()
    cluster = workspaces.store.get(workspace, CLUSTER, text(fields, "clusterId"))
    if cluster is None or cluster["state"] != "RUNNING":
        raise ApiError(400, "INVALID_STATE", f"Cluster {fields['clusterId']} is not running")
    context_id = workspaces.contexts.create(
        str(fields.get("language", "python")),
        workspaces.task_environment.variables(workspace, caller().name),
        workspaces.layout.home(workspace) / "contexts",
        workspaces.layout.mounts(workspace),
        workspaces.store.next_number(),
    )
    return jsonify({"id": context_id})


@blueprint.get("/api/1.2/contexts/status")
def context_status() -> Response:
    """Return whether a context's Python is running."""
    context = all_workspaces().contexts.get(text(parameters(), "contextId"))
    return jsonify({"id": context.identifier, "status": "Running" if context.running else "Error"})


@blueprint.post("/api/1.2/commands/execute")
def execute_command() -> Response:
    """Start a command in a context."""
    fields = parameters()
    context = all_workspaces().contexts.get(text(fields, "contextId"))
    return jsonify({"id": context.execute(text(fields, "command"))})


@blueprint.get("/api/1.2/commands/status")
def command_status() -> Response:
    """Return a command's status and its result."""
    fields = parameters()
    context = all_workspaces().contexts.get(text(fields, "contextId"))
    return jsonify(context.status(text(fields, "commandId")))


@blueprint.post("/api/1.2/commands/cancel")
def cancel_command() -> Response:
    """Stop the context of a command, and with it the command."""
    all_workspaces().contexts.get(text(parameters(), "contextId")).stop()
    return jsonify({})
