"""Answer the SCIM API: who the caller is, and which service principals there are."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from local_workspace.addresses import OWNER
from local_workspace.routes.common import all_workspaces, this_workspace
from local_workspace.store import PRINCIPAL

blueprint = Blueprint("scim", __name__)


@blueprint.get("/api/2.0/preview/scim/v2/Me")
def me() -> Response:
    """Return the user that the owner's token stands for."""
    return jsonify({"id": "1", "userName": OWNER, "displayName": "developer", "active": True})


@blueprint.get("/api/2.0/preview/scim/v2/ServicePrincipals")
def service_principals() -> Response:
    """List the service principals; `startIndex` counts from 1."""
    found = all_workspaces().store.all(this_workspace(), PRINCIPAL)
    start = max(1, int(request.args.get("startIndex", 1)))
    page = found[start - 1 : start - 1 + int(request.args.get("count", 100))]
    return jsonify({"totalResults": len(found), "startIndex": start, "itemsPerPage": len(page), "Resources": page})
