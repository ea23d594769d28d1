"""Answer the Files API: files and directories of Unity Catalog, by paths such as `/Volumes/c/s/v/x.csv`.

Below `/Models/c/s/m/1` are the files of a version of a registered model, below `/WorkspaceInternal/Mlflow/Artifacts`
those of runs and logged models.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request, send_file

from local_workspace.addresses import workspace_url
from local_workspace.dbfs import write
from local_workspace.errors import ApiError, invalid
from local_workspace.routes import artifacts, model_files
from local_workspace.routes.access import require
from local_workspace.routes.catalog_objects import this_catalog
from local_workspace.routes.common import (
    all_workspaces,
    is_true,
    page_by_token,
    page_size,
    parameters,
    text,
    this_workspace,
)
from local_workspace.store import Document

blueprint = Blueprint("files", __name__, url_prefix="/api/2.0/fs")

_LARGEST_PAGE = 1000
_DEPTH_OF_A_VOLUME = 4  # Volumes, catalog, schema, volume


def _local(path: str, *, to_write: bool = False) -> Path:
    """Return the local file or directory of a path in a volume, of a model's version, or among artifacts.

    Raises: ApiError 400 for a path of another kind; ApiError 404 when there is no such volume or version.
    """
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["Models"]:
        return model_files.local(path, to_write=to_write)
    if parts[:1] == ["WorkspaceInternal"]:
        return artifacts.local(parts)
    if parts[:1] != ["Volumes"] or len(parts) < _DEPTH_OF_A_VOLUME or ".." in parts:
        raise invalid(f"Invalid path: /{path} must be /Volumes/CATALOG/SCHEMA/VOLUME/…")
    volume = this_catalog().get("volume", ".".join(parts[1:_DEPTH_OF_A_VOLUME]))["full_name"]
    require(this_catalog(), "WRITE_VOLUME" if to_write else "READ_VOLUME", "volume", volume)
    return all_workspaces().layout.dbfs(this_workspace()).local(f"/{path}")


def _file(path: str) -> Path:
    found = _local(path)
    if not found.is_file():
        raise ApiError(404, "NOT_FOUND", "The file being accessed is not found.")
    return found


def _directory(path: str) -> Path:
    found = _local(path)
    if not found.is_dir():
        raise ApiError(404, "NOT_FOUND", "The directory being accessed is not found.")
    return found


@blueprint.put("/files/<path:path>")
def upload(path: str) -> tuple[str, int]:
    """Write a file; one that exists only when `overwrite` is true."""
    target = _local(path, to_write=True)
    if target.is_dir():
        raise ApiError(409, "ALREADY_EXISTS", f"A directory exists at /{path}.")
    if target.exists() and not is_true(request.args, "overwrite"):
        raise ApiError(409, "ALREADY_EXISTS", f"The file being created already exists: /{path}")
    write(target, request.get_data())
    return "", 204


@blueprint.get("/files/<path:path>")
def download(path: str) -> Response:
    """Return a file's content, or the range that is asked for; to HEAD its length and the time of its change."""
    return send_file(_file(path), mimetype="application/octet-stream", conditional=True)


@blueprint.delete("/files/<path:path>")
def delete(path: str) -> tuple[str, int]:
    """Remove a file."""
    _local(path, to_write=True)
    _file(path).unlink()
    return "", 204


@blueprint.put("/directories/<path:path>")
def make_directory(path: str) -> tuple[str, int]:
    """Make a directory and those above it; one that exists stays."""
    target = _local(path, to_write=True)
    if target.is_file():
        raise ApiError(409, "ALREADY_EXISTS", f"A file exists at /{path}.")
    target.mkdir(parents=True, exist_ok=True)
    return "", 204


@blueprint.get("/directories/<path:path>")
def list_directory(path: str) -> Response:
    """Describe what a directory holds, page by page; to HEAD only whether it exists."""
    directory, fields = _directory(path), request.args.to_dict()
    size = page_size(fields, "page_size", _LARGEST_PAGE, _LARGEST_PAGE)
    entries = [_described(f"/{path.rstrip('/')}", entry) for entry in sorted(directory.iterdir())]
    page, token = page_by_token(entries, fields, size)
    return jsonify({"contents": page, **({"next_page_token": token} if token else {})})


def _described(parent: str, entry: Path) -> Document:
    found = entry.stat()
    described: Document = {"path": f"{parent}/{entry.name}", "name": entry.name, "is_directory": entry.is_dir()}
    if not entry.is_dir():
        described |= {"file_size": found.st_size, "last_modified": int(found.st_mtime * 1000)}
    return described


@blueprint.delete("/directories/<path:path>")
def delete_directory(path: str) -> tuple[str, int]:
    """Remove a directory that is empty."""
    _local(path, to_write=True)
    target = _directory(path)
    if any(target.iterdir()):
        raise ApiError(400, "BAD_REQUEST", f"The directory is not empty: /{path}")
    target.rmdir()
    return "", 204


@blueprint.post("/create-upload-url")
def upload_address() -> Response:
    """Return an address to which a file of a model's version can be written, and the headers to send with it."""
    return _address(to_write=True)


@blueprint.post("/create-download-url")
def download_address() -> Response:
    """Return an address from which a file of a model's version can be read, and the headers to send with it."""
    return _address()


def _address(*, to_write: bool = False) -> Response:
    path = text(parameters(), "path").lstrip("/")
    if not path.startswith("Models/"):
        raise ApiError(404, "ENDPOINT_NOT_FOUND", "local_workspace has presigned addresses for models only.")
    model_files.local(path, to_write=to_write)
    url = f"{workspace_url(this_workspace())}{blueprint.url_prefix}/files/{quote(path)}?overwrite=true"
    headers = [{"name": "Authorization", "value": request.headers.get("Authorization", "")}]
    return jsonify({"url": url, "headers": headers})
