"""Answer the SCIM API: who the caller is, and which users, groups and service principals there are."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from local_workspace.errors import ApiError, invalid
from local_workspace.routes.common import all_workspaces, caller, number, parameters, text, this_workspace
from local_workspace.routes.scim_filter import condition
from local_workspace.store import GROUP, PRINCIPAL, USER, Document

blueprint = Blueprint("scim", __name__, url_prefix="/api/2.0/preview/scim/v2")

_SCHEMA = "urn:ietf:params:scim:schemas:core:2.0:"
_SCIM_TYPES = {400: "invalidValue", 409: "uniqueness"}
_ERROR_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:Error"
# The part of an address that names a collection: the kind of its documents, their SCIM type, and what names one.
_COLLECTIONS = {
    "Users": (USER, "User", "userName"),
    "Groups": (GROUP, "Group", "displayName"),
    "ServicePrincipals": (PRINCIPAL, "ServicePrincipal", "applicationId"),
}
_ATTRIBUTES = frozenset({"id", "userName", "displayName", "applicationId", "externalId", "active"})


@blueprint.errorhandler(ApiError)
def scim_error(error: ApiError) -> tuple[Response, int]:
    """Answer an error as SCIM does, with the fields of every other API beside them."""
    answer = {"schemas": [_ERROR_SCHEMA], "detail": error.message, "status": str(error.status)}
    if error.status in _SCIM_TYPES:
        answer["scimType"] = _SCIM_TYPES[error.status]
    return jsonify({**answer, "error_code": error.error_code, "message": error.message}), error.status


@blueprint.get("/Me")
def me() -> Response:
    """Return the user or the service principal that the caller is."""
    this = caller()
    kind, identity = (PRINCIPAL, "applicationId") if this.is_service_principal else (USER, "userName")
    for found in all_workspaces().store.all(this_workspace(), kind):
        if found[identity] == this.name:
            # A service principal's user name is its application id.
            return jsonify({**found, "userName": this.name})
    raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"{this.name} is no longer in this workspace.")


@blueprint.get("/<any(Users, Groups, ServicePrincipals):collection>")
def list_all(collection: str) -> Response:
    """List those that the filter takes; `startIndex` counts from 1."""
    chosen = condition(request.args.get("filter", ""), _ATTRIBUTES)
    kind = _COLLECTIONS[collection][0]
    found = [one for one in all_workspaces().store.all(this_workspace(), kind) if chosen(one)]
    fields: Document = {"startIndex": 1, "count": 100, **request.args.to_dict()}
    start, count = max(1, number(fields, "startIndex")), max(0, number(fields, "count"))
    page = found[start - 1 : start - 1 + count]
    return jsonify({"totalResults": len(found), "startIndex": start, "itemsPerPage": len(page), "Resources": page})


@blueprint.post("/<any(Users, Groups, ServicePrincipals):collection>")
def add(collection: str) -> tuple[Response, int]:
    """Add a user, a group or a service principal, whose name must be new."""
    kind, scim_type, identity = _COLLECTIONS[collection]
    fields, store, workspace = parameters(), all_workspaces().store, this_workspace()
    with store.transaction():
        identifier = store.next_number()
        if kind == PRINCIPAL:
            fields.setdefault("applicationId", f"00000000-0000-0000-0001-{identifier:012d}")
        name = text(fields, identity)
        if any(one[identity] == name for one in store.all(workspace, kind)):
            raise ApiError(409, "RESOURCE_ALREADY_EXISTS", f"{scim_type} with {identity} {name} already exists.")
        kept = {key: value for key, value in fields.items() if key in _ATTRIBUTES and key != "id"}
        added = {"schemas": [_SCHEMA + scim_type], "id": str(identifier), "displayName": name, "active": True, **kept}
        store.put(workspace, kind, identifier, added)
    return jsonify(added), 201


@blueprint.get("/<any(Users, Groups, ServicePrincipals):collection>/<identifier>")
def get(collection: str, identifier: str) -> Response:
    """Return the one with that id."""
    return jsonify(_found(collection, identifier))


@blueprint.delete("/<any(Users, Groups, ServicePrincipals):collection>/<identifier>")
def remove(collection: str, identifier: str) -> tuple[str, int]:
    """Remove the one with that id; the caller can't remove itself."""
    found = _found(collection, identifier)
    if caller().name in (found.get("userName"), found.get("applicationId")):
        raise invalid("The caller can't remove itself.")
    all_workspaces().store.delete(this_workspace(), _COLLECTIONS[collection][0], identifier)
    return "", 204


def _found(collection: str, identifier: str) -> Document:
    kind, scim_type, _ = _COLLECTIONS[collection]
    found = all_workspaces().store.get(this_workspace(), kind, identifier)
    if found is None:
        raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"{scim_type} with id {identifier} not found.")
    return found
