"""Answer the API of Unity Catalog's model registry, which MLflow's clients call for `databricks-uc`.

Models and versions are kept by MLflow's own store of the workspace. There are aliases and no stages; the files of a
version are copied to the registry, and are complete once it is finalized.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from flask import Blueprint, Response, jsonify

from local_workspace.errors import ApiError, invalid, not_found
from local_workspace.mlflow_server import model_registry
from local_workspace.routes import catalog_objects, model_files
from local_workspace.routes.access import require, require_owner
from local_workspace.routes.catalog_objects import OWNER_TAG, this_catalog
from local_workspace.routes.common import caller, page_by_token, page_size, parameters, text, this_workspace
from local_workspace.store import Document

blueprint = Blueprint("model_registry", __name__, url_prefix="/api/2.0/mlflow/unity-catalog")

_LEVELS = 3
_LARGEST_PAGE = 1000
_FILTER = re.compile(r"^\s*(name|run_id)\s*=\s*(['\"])([^'\"]+)\2\s*$", re.IGNORECASE)
_Found = TypeVar("_Found")


@blueprint.get("/registered-models:is-databricks-sdk-models-artifact-repository-enabled")
def files_by_sdk() -> Response:
    """Say that clients read and write the files of versions by the Files API."""
    return jsonify({"is_databricks_sdk_models_artifact_repository_enabled": True})


@blueprint.post("/registered-models/create")
def create_model() -> Response:
    """Create a registered model in a schema that there is."""
    fields = parameters()
    name = _three_levels(fields)
    require(this_catalog(), "CREATE_MODEL", "schema", name.rpartition(".")[0])
    this_catalog().get("schema", name.rpartition(".")[0])
    if any(model["full_name"] == name for model in this_catalog().all("model")):
        raise ApiError(409, "RESOURCE_ALREADY_EXISTS", f"Registered model '{name}' already exists")
    _ask(lambda: catalog_objects.create_model(name, _tags(fields), fields.get("description")))
    return _model_answer(name)


@blueprint.get("/registered-models/get")
def get_model() -> Response:
    """Return a registered model with its aliases."""
    return _model_answer(_model_name(parameters()))


@blueprint.patch("/registered-models/update")
def update_model() -> Response:
    """Change a model's description, or its name within its schema."""
    fields = parameters()
    name = _model_name(fields, to_change=True)
    if "description" in fields:
        _ask(lambda: _store().update_registered_model(name, fields["description"]))
    if fields.get("new_name"):
        raise invalid("local_workspace does not rename models.")
    return _model_answer(name)


@blueprint.delete("/registered-models/delete")
def delete_model() -> Response:
    """Delete a model with its versions and their files."""
    this_catalog().delete("model", _model_name(parameters(), to_change=True))
    return jsonify({})


@blueprint.get("/registered-models/search")
def search_models() -> Response:
    """List the registered models."""
    names = [model["full_name"] for model in this_catalog().all("model")]
    return _listed("registered_models", [_described_model(name) for name in names])


@blueprint.post("/registered-models/alias")
def set_alias() -> Response:
    """Make an alias name a version."""
    fields = parameters()
    name, version = _version_name(fields, to_change=True)
    _ask(lambda: _store().set_registered_model_alias(name, text(fields, "alias"), version))
    return jsonify({})


@blueprint.delete("/registered-models/alias")
def delete_alias() -> Response:
    """Remove an alias."""
    fields = parameters()
    name = _model_name(fields, to_change=True)
    _ask(lambda: _store().delete_registered_model_alias(name, text(fields, "alias")))
    return jsonify({})


@blueprint.get("/registered-models/alias")
def get_by_alias() -> Response:
    """Return the version that an alias names."""
    fields = parameters()
    name, alias = _model_name(fields), text(fields, "alias")
    if alias not in _ask(lambda: _store().get_registered_model(name)).aliases:
        raise not_found(f"Alias '{alias}' of model '{name}' does not exist.")
    return _version_answer(name, _ask(lambda: _store().get_model_version_by_alias(name, alias)).version)


@blueprint.post("/registered-models/set-tag")
def set_model_tag() -> Response:
    """Set a tag of a model."""
    fields = parameters()
    name = _model_name(fields, to_change=True)
    _ask(lambda: _store().set_registered_model_tag(name, _tag(text(fields, "key"), str(fields.get("value") or ""))))
    return jsonify({})


@blueprint.delete("/registered-models/delete-tag")
def delete_model_tag() -> Response:
    """Remove a tag of a model."""
    fields = parameters()
    name = _model_name(fields, to_change=True)
    _ask(lambda: _store().delete_registered_model_tag(name, text(fields, "key")))
    return jsonify({})


@blueprint.post("/model-versions/create")
def create_version() -> Response:
    """Begin a version: the client now writes its files, and then finalizes it."""
    fields = parameters()
    name = _model_name(fields, to_change=True)
    made = _ask(
        lambda: _store().create_model_version(
            name,
            text(fields, "source"),
            run_id=fields.get("run_id") or None,
            tags=[*_tags(fields), _tag(OWNER_TAG, caller().name)],
            description=fields.get("description"),
            model_id=fields.get("model_id") or None,
        )
    )
    model_files.begin(name, str(made.version))
    return _version_answer(name, made.version)


@blueprint.post("/model-versions/finalize")
def finalize_version() -> Response:
    """Make a version whose files have been written ready."""
    name, version = _version_name(parameters(), to_change=True)
    model_files.finish(name, version)
    return _version_answer(name, version)


@blueprint.get("/model-versions/get")
def get_version() -> Response:
    """Return a version."""
    return _version_answer(*_version_name(parameters()))


@blueprint.patch("/model-versions/update")
def update_version() -> Response:
    """Change a version's description."""
    fields = parameters()
    name, version = _version_name(fields, to_change=True)
    _ask(lambda: _store().update_model_version(name, version, fields.get("description")))
    return _version_answer(name, version)


@blueprint.delete("/model-versions/delete")
def delete_version() -> Response:
    """Delete a version with its files and the aliases that name it."""
    name, version = _version_name(parameters(), to_change=True)
    _ask(lambda: _store().delete_model_version(name, version))
    shutil.rmtree(model_files.folder(name, version), ignore_errors=True)
    model_files.forget(name, version)
    return jsonify({})


@blueprint.get("/model-versions/search")
def search_versions() -> Response:
    """List the versions of a model, or those of a run."""
    given = str(parameters().get("filter") or "")
    found = _FILTER.match(given)
    if found is None:
        raise invalid(f"Unsupported filter query : `{given}`. Please use `name = 'model_name'` or `run_id = 'run_id'`.")
    if found[1].lower() == "name":
        _model_name({"name": found[3]})
    wanted = f"{found[1].lower()} = '{found[3].lower()}'"
    versions = _ask(lambda: _store().search_model_versions(wanted, max_results=_LARGEST_PAGE))
    known = [one for one in versions if one.name.count(".") == _LEVELS - 1]
    # As there, the aliases and the tags of a version are not in a list.
    return _listed("model_versions", [_described_version(one, with_all=False) for one in known])


@blueprint.get("/model-versions/get-download-uri")
def download_uri() -> Response:
    """Return where a version's files are."""
    name, version = _version_name(parameters())
    return jsonify({"artifact_uri": _path(name, version)})


@blueprint.post("/model-versions/generate-temporary-credentials")
def temporary_credentials() -> Response:
    """Say that a version's files are in the workspace's own storage, which presigned addresses lead to."""
    _version_name(parameters())
    return jsonify({"credentials": {"storage_mode": "DEFAULT_STORAGE"}})


@blueprint.post("/model-versions/set-tag")
def set_version_tag() -> Response:
    """Set a tag of a version."""
    fields = parameters()
    name, version = _version_name(fields, to_change=True)
    tag = _tag(text(fields, "key"), str(fields.get("value") or ""))
    _ask(lambda: _store().set_model_version_tag(name, version, tag))
    return jsonify({})


@blueprint.delete("/model-versions/delete-tag")
def delete_version_tag() -> Response:
    """Remove a tag of a version."""
    fields = parameters()
    name, version = _version_name(fields, to_change=True)
    _ask(lambda: _store().delete_model_version_tag(name, version, text(fields, "key")))
    return jsonify({})


@blueprint.post("/model-versions/emit-lineage")
def emit_lineage() -> Response:
    """Accept what a client says about the origin of a version; it is not kept."""
    _version_name(parameters())
    return jsonify({})


def _store() -> Any:
    return model_registry(this_workspace())


def _ask(call: Callable[[], _Found]) -> _Found:
    """Return what MLflow's store answers, and its errors as those of the API."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException as error:
        raise ApiError(error.get_http_status_code(), str(error.error_code), error.message) from error


def _three_levels(fields: Document) -> str:
    name = text(fields, "name").lower()
    if name.count(".") != _LEVELS - 1 or not all(name.split(".")):
        raise invalid(
            f"Invalid registered model name '{name}'. Please specify all three levels of the model in the form "
            "`catalog_name.schema_name.model_name`"
        )
    return name


def _model_name(fields: Document, *, to_change: bool = False) -> str:
    """Return the name of the model that the request names; it exists, and the caller may read or change it."""
    name = str(this_catalog().get("model", _three_levels(fields))["full_name"]).lower()
    if to_change:
        require_owner(this_catalog(), "model", name)
    else:
        require(this_catalog(), "EXECUTE", "model", name)
    return name


def _version_name(fields: Document, *, to_change: bool = False) -> tuple[str, str]:
    """Return the model and the version that the request names; both exist, and the caller may read or change them."""
    name, version = _model_name(fields, to_change=to_change), text(fields, "version")
    if not version.isdigit():
        raise invalid(f"'{version}' is not a valid version of a model.")
    _ask(lambda: _store().get_model_version(name, version))
    return name, version


def _tag(key: str, value: str) -> Any:
    from mlflow.entities.model_registry import ModelVersionTag

    return ModelVersionTag(key, value)


def _tags(fields: Document) -> list[Any]:
    return [_tag(one["key"], str(one.get("value") or "")) for one in fields.get("tags") or []]


def _path(name: str, version: object) -> str:
    return f"/Models/{name.replace('.', '/')}/{version}"


def _model_answer(name: str) -> Response:
    return jsonify({"registered_model": _described_model(name)})


def _version_answer(name: str, version: object) -> Response:
    found = _ask(lambda: _store().get_model_version(name, str(version)))
    return jsonify({"model_version": _described_version(found, with_all=True)})


def _described_model(name: str) -> Document:
    model = _ask(lambda: _store().get_registered_model(name))
    return {
        **_described(model),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in model.aliases.items()],
        "tags": _shown_tags(model.tags.items()),
    }


def _described_version(version: Any, *, with_all: bool) -> Document:
    name, number = version.name, str(version.version)
    status = "PENDING_REGISTRATION" if model_files.is_pending(name, number) else "READY"
    described: Document = {
        **_described(version),
        "version": number,
        "source": version.source or "",
        "run_id": version.run_id or "",
        "status": status,
        "storage_location": _path(name, number),
        "model_id": version.model_id or "",
    }
    if with_all:
        described["aliases"] = [{"alias": alias, "version": number} for alias in version.aliases]
        described["tags"] = _shown_tags(version.tags.items())
    return described


def _described(found: Any) -> Document:
    return {
        "name": found.name,
        "creation_timestamp": found.creation_timestamp,
        "last_updated_timestamp": found.last_updated_timestamp,
        "description": found.description or "",
        "user_id": found.tags.get(OWNER_TAG, ""),
    }


def _shown_tags(tags: Iterable[tuple[str, str]]) -> list[Document]:
    return [{"key": key, "value": value} for key, value in tags if key != OWNER_TAG]


def _listed(name: str, found: list[Document]) -> Response:
    fields = parameters()
    page, token = page_by_token(found, fields, page_size(fields, "max_results", _LARGEST_PAGE, _LARGEST_PAGE))
    return jsonify({name: page, **({"next_page_token": token} if token else {})})
