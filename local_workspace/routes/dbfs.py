"""Answer the DBFS API, and the plain `/dbfs/…` addresses that MLflow reads and writes artifacts by."""

from __future__ import annotations

from base64 import b64encode

from flask import Blueprint, Response, jsonify, request

from local_workspace.dbfs import Dbfs, is_in_root
from local_workspace.errors import ApiError
from local_workspace.routes.common import (
    all_workspaces,
    base64_content,
    is_true,
    number,
    parameters,
    text,
    this_workspace,
)

blueprint = Blueprint("dbfs", __name__)

_LARGEST_BLOCK = 1 << 20  # bytes


def _dbfs(*paths: str) -> Dbfs:
    """Return the workspace's DBFS, for the paths that a request names.

    Raises: ApiError 403 for one in a volume, which only the Files API reaches, and for one on DBFS root where that is
    disabled.
    """
    for path in paths:
        if not is_in_root(path):
            raise ApiError(403, "PERMISSION_DENIED", "No operations allowed on this path")
        if not all_workspaces().dbfs_root:
            raise ApiError(403, "PERMISSION_DENIED", f"Public DBFS root is disabled. Access is denied on path: {path}")
    return all_workspaces().layout.dbfs(this_workspace())


@blueprint.route("/dbfs/<path:path>", methods=["GET", "HEAD", "POST", "PUT"])
def raw(path: str) -> Response:
    """Return a file's content, or write it."""
    if request.method in ("POST", "PUT"):
        _dbfs(f"/{path}").write(f"/{path}", request.get_data())
        return jsonify({})
    return Response(_dbfs(f"/{path}").read(f"/{path}"), content_type="application/octet-stream")


@blueprint.post("/api/2.0/dbfs/put")
def put() -> Response:
    """Write a file whose content is in the request: as an uploaded file or as base64."""
    fields = dict(request.form) if request.files else parameters()
    content = next(iter(request.files.values())).read() if request.files else base64_content(fields, "contents")
    path = text(fields, "path")
    _dbfs(path).write(path, content, overwrite=is_true(fields, "overwrite"))
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/create")
def create() -> Response:
    """Begin an upload and return its handle."""
    fields = parameters()
    path = text(fields, "path")
    _dbfs(path).local(path)
    handle = all_workspaces().store.next_number()
    all_workspaces().uploads.begin(handle, path, overwrite=bool(fields.get("overwrite")))
    return jsonify({"handle": handle})


@blueprint.post("/api/2.0/dbfs/add-block")
def add_block() -> Response:
    """Append a block to an upload."""
    fields = parameters()
    all_workspaces().uploads.get(number(fields, "handle")).content.extend(base64_content(fields, "data"))
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/close")
def close() -> Response:
    """Write the file of an upload and end it."""
    handle = number(parameters(), "handle")
    upload = all_workspaces().uploads.get(handle)
    _dbfs().write(upload.path, bytes(upload.content), overwrite=upload.overwrite)
    all_workspaces().uploads.end(handle)
    return jsonify({})


@blueprint.get("/api/2.0/dbfs/get-status")
def get_status() -> Response:
    """Describe a file or directory."""
    path = text(parameters(), "path")
    return jsonify(_dbfs(path).status(path))


@blueprint.get("/api/2.0/dbfs/list")
def list_files() -> Response:
    """Describe the files of a directory."""
    path = text(parameters(), "path")
    return jsonify({"files": _dbfs(path).listing(path)})


@blueprint.get("/api/2.0/dbfs/read")
def read() -> Response:
    """Return a block of a file as base64, of at most one megabyte."""
    fields = parameters()
    start = number(fields, "offset") if fields.get("offset") else 0
    length = min(number(fields, "length") if fields.get("length") else _LARGEST_BLOCK, _LARGEST_BLOCK)
    path = text(fields, "path")
    content = _dbfs(path).read(path)[start : start + length]
    return jsonify({"bytes_read": len(content), "data": b64encode(content).decode()})


@blueprint.post("/api/2.0/dbfs/mkdirs")
def make_directory() -> Response:
    """Make a directory and those above it."""
    path = text(parameters(), "path")
    _dbfs(path).local(path).mkdir(parents=True, exist_ok=True)
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/delete")
def delete() -> Response:
    """Delete a file or directory."""
    fields = parameters()
    path = text(fields, "path")
    _dbfs(path).delete(path, recursive=bool(fields.get("recursive")))
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/move")
def move() -> Response:
    """Rename a file or directory."""
    fields = parameters()
    source, destination = text(fields, "source_path"), text(fields, "destination_path")
    _dbfs(source, destination).move(source, destination)
    return jsonify({})
