"""Answer Unity Catalog's API: catalogs, schemas, tables, volumes and registered models, and the privileges on them."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from local_workspace.errors import ApiError, invalid
from local_workspace.mlflow_server import model_registry
from local_workspace.permissions import is_principal
from local_workspace.routes.access import require, require_owner, stored_privileges
from local_workspace.routes.catalog_objects import create_model, this_catalog
from local_workspace.routes.common import (
    all_workspaces,
    caller,
    is_true,
    number,
    page_by_token,
    parameters,
    text,
    this_workspace,
)
from local_workspace.store import Document

blueprint = Blueprint("unity_catalog", __name__, url_prefix="/api/2.1/unity-catalog")

_LARGEST_PAGE = 1000
# The collections of the API: the kind of their objects, and the field of a list's answer.
_KINDS = {"catalogs": "catalog", "schemas": "schema", "tables": "table", "volumes": "volume", "models": "model"}
_LISTED = {"models": "registered_models"}
# What the privileges API calls the kinds; a model is a function to it.
_SECURABLES = {
    **{kind: kind for kind in ("catalog", "schema", "table", "volume")},
    **dict.fromkeys(("function", "registered_model", "registered-model"), "model"),
}
_COLLECTION = "<any(catalogs, schemas, tables, volumes, models):collection>"


@blueprint.get(f"/{_COLLECTION}")
def list_objects(collection: str) -> Response:
    """List the objects of a kind, all of them or those of a catalog or schema."""
    fields = request.args.to_dict()
    if collection == "schemas" or (collection in ("tables", "volumes") and "catalog_name" in fields):
        text(fields, "catalog_name")
    within = ".".join(fields[name] for name in ("catalog_name", "schema_name") if fields.get(name))
    size = number(fields, "max_results") if fields.get("max_results") else _LARGEST_PAGE
    found = this_catalog().all(_KINDS[collection], within)
    page, token = page_by_token(found, fields, size if 0 < size < _LARGEST_PAGE else _LARGEST_PAGE)
    return jsonify({_LISTED.get(collection, collection): page, **({"next_page_token": token} if token else {})})


@blueprint.post("/<any(catalogs, schemas, volumes, models):collection>")
def create(collection: str) -> Response:
    """Create a catalog, a schema, a volume or a registered model."""
    fields, kind = parameters(), _KINDS[collection]
    above = {"catalogs": (), "schemas": ("catalog_name",)}.get(collection, ("catalog_name", "schema_name"))
    full_name = ".".join([text(fields, name) for name in (*above, "name")])
    if kind == "catalog" and caller().is_service_principal:
        raise ApiError(403, "PERMISSION_DENIED", "User does not have CREATE CATALOG on Metastore.")
    if kind != "catalog":
        container, privilege = full_name.rpartition(".")[0], f"CREATE_{kind.upper()}"
        require(this_catalog(), privilege, "schema" if "." in container else "catalog", container)
    if kind != "model":
        if kind == "volume" and fields.get("volume_type", "MANAGED") != "MANAGED":
            raise invalid("local_workspace keeps volumes of type MANAGED only.")
        return jsonify(this_catalog().create(kind, full_name, fields))
    this_catalog().get("schema", full_name.rpartition(".")[0])
    if any(model["full_name"] == full_name for model in this_catalog().all("model")):
        raise ApiError(409, "RESOURCE_ALREADY_EXISTS", f"Registered model '{full_name}' already exists")
    create_model(full_name, [], fields.get("comment"))
    return jsonify(this_catalog().get("model", full_name))


@blueprint.get(f"/{_COLLECTION}/<name>")
def get(collection: str, name: str) -> Response:
    """Return an object."""
    return jsonify(this_catalog().get(_KINDS[collection], name))


@blueprint.patch("/<any(catalogs, schemas, volumes):collection>/<name>")
def change(collection: str, name: str) -> Response:
    """Change an object's comment or owner."""
    require_owner(this_catalog(), _KINDS[collection], name)
    return jsonify(this_catalog().change(_KINDS[collection], name, parameters()))


@blueprint.delete(f"/{_COLLECTION}/<name>")
def delete(collection: str, name: str) -> Response:
    """Remove an object; `force` removes a catalog or a schema that is not empty."""
    require_owner(this_catalog(), _KINDS[collection], name)
    this_catalog().delete(_KINDS[collection], name, force=is_true(parameters(), "force"))
    return jsonify({})


@blueprint.get("/tables/<name>/exists")
def table_exists(name: str) -> Response:
    """Return whether there is a table, in a schema that there is."""
    this_catalog().get("schema", name.rpartition(".")[0])
    return jsonify({"table_exists": any(table["full_name"] == name.lower() for table in this_catalog().all("table"))})


@blueprint.get("/models/<name>/versions")
def model_versions(name: str) -> Response:
    """List the versions of a registered model, oldest first, each with its aliases."""
    model = this_catalog().get("model", name)
    catalog_name, schema_name, model_name = model["full_name"].split(".")
    versions = model_registry(this_workspace()).search_model_versions(f"name = '{model['full_name']}'")
    listed: list[Document] = [
        {
            "catalog_name": catalog_name,
            "schema_name": schema_name,
            "model_name": model_name,
            "version": int(version.version),
            "run_id": version.run_id,
            "status": str(version.status),
            "comment": version.description or "",
            "created_at": version.creation_timestamp,
            "aliases": [{"alias_name": alias, "version_num": int(version.version)} for alias in version.aliases],
        }
        for version in sorted(versions, key=lambda version: int(version.version))
    ]
    return jsonify({"model_versions": listed})


@blueprint.route("/permissions/<kind>/<name>", methods=["GET", "PATCH"])
def privileges(kind: str, name: str) -> Response:
    """Return the privileges on an object, after changing them (PATCH)."""
    if kind.lower() not in _SECURABLES:
        raise invalid(f"Privileges on a {kind} are not supported by local_workspace")
    store, workspace = all_workspaces().store, this_workspace()
    kind = _SECURABLES[kind.lower()]
    stored_kind, full_name = stored_privileges(kind), this_catalog().get(kind, name)["full_name"]
    granted: dict[str, list[str]] = store.get(workspace, stored_kind, full_name) or {}
    if request.method == "PATCH":
        require_owner(this_catalog(), kind, full_name)
        for one in parameters().get("changes") or []:
            principal = text(one, "principal")
            if not is_principal(store, workspace, principal):
                raise ApiError(404, "PRINCIPAL_DOES_NOT_EXIST", f"Could not find principal with name {principal}.")
            kept = set(granted.get(principal, [])) - set(one.get("remove") or [])
            granted[principal] = sorted(kept | set(one.get("add") or []))
        store.put(workspace, stored_kind, full_name, granted)
    assignments = [{"principal": principal, "privileges": names} for principal, names in granted.items() if names]
    return jsonify({"privilege_assignments": assignments})
