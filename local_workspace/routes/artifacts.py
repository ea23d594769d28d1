"""Answer what Databricks adds to MLflow's API: the files of runs, of logged models, and of the workspace registry.

The files themselves go through the Files API. A client that does not know it for artifacts asks here for addresses.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request

from local_workspace import artifact_addresses
from local_workspace.addresses import workspace_url
from local_workspace.errors import ApiError, invalid, not_found
from local_workspace.mlflow_server import artifact_root, model_registry
from local_workspace.routes.common import all_workspaces, parameters, text, this_workspace
from local_workspace.store import Document

blueprint = Blueprint("artifacts", __name__, url_prefix="/api/2.0/mlflow")

# What the proxies of all clouds understand: one request for a file of any size.
_KIND_OF_ADDRESS = "GCP_SIGNED_URL"


def local(parts: list[str]) -> Path:
    """Return the local file or folder of a path of the Files API that leads to artifacts, given as its parts.

    Raises: ApiError 400 for a path of another form.
    """
    inside = artifact_addresses.stored(parts)
    if inside is None:
        raise invalid(f"Invalid path: /{'/'.join(parts)}")
    return all_workspaces().layout.artifacts(this_workspace()).local(f"/{inside}")


@blueprint.post("/artifacts/credentials-for-<any(read, write):purpose>")
def credentials_for_run(purpose: str) -> Response:  # noqa: ARG001 (an address serves both)
    """Return an address for each artifact of a run that the request names, to read it from or to write it to."""
    fields = parameters()
    run_id = text(fields, "run_id")
    root = _root(run_id)
    infos = [{"run_id": run_id, **_credentials(root, path)} for path in fields.get("path") or []]
    return jsonify({"credential_infos": infos})


@blueprint.post("/logged-models/<model_id>/artifacts/credentials-for-<any(upload, download):purpose>")
def credentials_for_model(model_id: str, purpose: str) -> Response:  # noqa: ARG001 (an address serves both)
    """Return an address for each file of a logged model that the request names."""
    root = _root(model_id)
    infos = [_credentials(root, path) for path in parameters().get("paths") or []]
    return jsonify({"credentials": [{"model_id": model_id, "credential_info": info} for info in infos]})


@blueprint.get("/model-versions/list-artifacts")
def list_registered() -> Response:
    """List a directory of a version of the workspace registry."""
    path = str(parameters().get("path") or "").strip("/")
    folder = _version_folder()
    target = (folder / path).resolve()
    if target != folder and folder not in target.parents:
        raise invalid(f"Invalid path: {path}")
    entries = sorted(target.iterdir()) if target.is_dir() else [target] if target.is_file() else []
    files: list[Document] = [
        {
            "path": entry.relative_to(folder).as_posix(),
            "is_dir": entry.is_dir(),
            **({} if entry.is_dir() else {"file_size": entry.stat().st_size}),
        }
        for entry in entries
    ]
    return jsonify({"root_uri": "", "files": files})


@blueprint.get("/model-versions/get-signed-download-uri")
def signed_download_uri() -> Response:
    """Return an address from which a file of a version of the workspace registry can be read."""
    info = _credentials(_version_address(), text(parameters(), "path"))
    return jsonify({"signed_uri": info["signed_uri"], "headers": info["headers"]})


def file_of_run(workspace: str, run_id: str, name: str) -> Path | None:
    """Return the local file of an artifact of a run, or None when there is none of that name."""
    root = artifact_root(workspace, run_id)
    file = _local_of(workspace, f"{root}/{name}") if root else None
    return file if file is not None and file.is_file() else None


def _local_of(workspace: str, address: str) -> Path | None:
    """Return where the artifacts of an address are on this machine; None when the address is of no artifacts here."""
    path = artifact_addresses.path_of(address)
    if path is None or ".." in path.split("/"):
        return None
    layout = all_workspaces().layout
    if path.startswith("Volumes/"):
        return layout.dbfs(workspace).local(f"/{path}")
    inside = artifact_addresses.stored(path.split("/"))
    return layout.artifacts(workspace).local(f"/{inside}") if inside else None


def _version_folder() -> Path:
    address = _version_address()
    folder = _local_of(this_workspace(), address)
    if folder is None:
        raise invalid(f"Invalid path: {address}")
    return folder.resolve()


def _version_address() -> str:
    """Return where the files of the version that the request names are: the workspace registry copies none."""
    from mlflow.exceptions import MlflowException

    fields = parameters()
    name, version = text(fields, "name"), text(fields, "version")
    try:
        return str(model_registry(this_workspace()).get_model_version_download_uri(name, version))
    except MlflowException as error:
        raise ApiError(error.get_http_status_code(), str(error.error_code), error.message) from error


def _root(owner: str) -> str:
    root = artifact_root(this_workspace(), owner)
    if root is None:
        raise not_found(f"Run or model '{owner}' not found.")
    return root


def _credentials(root: str, path: str) -> Document:
    """Return an address of an artifact below `root`, and the headers to send with it."""
    found = artifact_addresses.path_of(f"{root}/{path}")
    if found is None or ".." in found.split("/"):
        raise invalid(f"Artifacts of {root} have no presigned addresses here.")
    return {
        "path": path,
        "signed_uri": f"{workspace_url(this_workspace())}/api/2.0/fs/files/{quote(found)}?overwrite=true",
        "headers": [{"name": "Authorization", "value": request.headers.get("Authorization", "")}],
        "type": _KIND_OF_ADDRESS,
    }
