"""Answer Unity Catalog's API: privileges of catalogs, schemas and so on, and dropping a schema."""

from __future__ import annotations

import re
import shutil

from flask import Blueprint, Response, jsonify, request

from local_workspace.errors import invalid, not_found
from local_workspace.mlflow_server import model_registry
from local_workspace.routes.common import all_workspaces, is_true, parameters, text, this_workspace

blueprint = Blueprint("unity_catalog", __name__)


@blueprint.route("/api/2.1/unity-catalog/permissions/<kind>/<name>", methods=["GET", "PATCH"])
def privileges(kind: str, name: str) -> Response:
    """Return the privileges on an object, after changing them (PATCH)."""
    store, workspace, stored_kind = all_workspaces().store, this_workspace(), f"privileges/{kind}"
    granted: dict[str, list[str]] = store.get(workspace, stored_kind, name) or {}
    if request.method == "PATCH":
        for change in parameters().get("changes") or []:
            kept = set(granted.get(text(change, "principal"), [])) - set(change.get("remove") or [])
            granted[change["principal"]] = sorted(kept | set(change.get("add") or []))
        store.put(workspace, stored_kind, name, granted)
    assignments = [{"principal": principal, "privileges": names} for principal, names in granted.items()]
    return jsonify({"privilege_assignments": assignments})


@blueprint.delete("/api/2.1/unity-catalog/schemas/<name>")
def drop_schema(name: str) -> Response:
    """Delete the tables and the registered models of a schema; `force` deletes one that is not empty."""
    if not re.fullmatch(r"\w+\.\w+", name):
        raise invalid(f"{name} is not CATALOG.SCHEMA")
    catalog, _, schema = name.partition(".")
    folder = all_workspaces().layout.lake(this_workspace()) / "warehouse" / f"{catalog}__{schema}.db"
    if not folder.is_dir():
        raise not_found(f"Schema '{name}' does not exist.")
    if any(folder.iterdir()) and not is_true(parameters(), "force"):
        raise invalid(f"Schema '{name}' is not empty.")
    shutil.rmtree(folder)
    registry = model_registry(this_workspace())
    for model in registry.search_registered_models(filter_string=f"name LIKE '{name}.%'"):
        registry.delete_registered_model(model.name)
    return jsonify({})
