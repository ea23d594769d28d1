"""Answer the DBFS API, and the plain `/dbfs/…` addresses that MLflow reads and writes artifacts by."""

from __future__ import annotations

from base64 import b64encode

from flask import Blueprint, Response, jsonify, request

from local_workspace.dbfs import Dbfs
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


def _dbfs() -> Dbfs:
    return all_workspaces().layout.dbfs(this_workspace())


@blueprint.route("/dbfs/<path:path>", methods=["GET", "HEAD", "POST", "PUT"])
def raw(path: str) -> Response:
    """Return a file's content, or write it."""
    if request.method in ("POST", "PUT"):
        _dbfs().write(f"/{path}", request.get_data())
        return jsonify({})
    return Response(_dbfs().read(f"/{path}"), content_type="application/octet-stream")


@blueprint.post("/api/2.0/dbfs/put")
def put() -> Response:
    """Write a file whose content is in the request: as an uploaded file or as base64."""
    fields = dict(request.form) if request.files else parameters()
    content = next(iter(request.files.values())).read() if request.files else base64_content(fields, "contents")
    _dbfs().write(text(fields, "path"), content, overwrite=is_true(fields, "overwrite"))
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/create")
def create() -> Response:
    """Begin an upload and return its handle."""
    fields = parameters()
    path = text(fields, "path")
    _dbfs().local(path)
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
    return jsonify(_dbfs().status(text(parameters(), "path")))


@blueprint.get("/api/2.0/dbfs/list")
def list_files() -> Response:
    """Describe the files of a directory."""
    return jsonify({"files": _dbfs().listing(text(parameters(), "path"))})


@blueprint.get("/api/2.0/dbfs/read")
def read() -> Response:
    """Return a block of a file as base64, of at most one megabyte."""
    fields = parameters()
    start = int(fields.get("offset") or 0)
    length = min(int(fields.get("length") or _LARGEST_BLOCK), _LARGEST_BLOCK)
    content = _dbfs().read(text(fields, "path"))[start : start + length]
    return jsonify({"bytes_read": len(content), "data": b64encode(content).decode()})


@blueprint.post("/api/2.0/dbfs/mkdirs")
def make_directory() -> Response:
    """Make a directory and those above it."""
    _dbfs().local(text(parameters(), "path")).mkdir(parents=True, exist_ok=True)
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/delete")
def delete() -> Response:
    """Delete a file or directory."""
    fields = parameters()
    _dbfs().delete(text(fields, "path"), recursive=bool(fields.get("recursive")))
    return jsonify({})


@blueprint.post("/api/2.0/dbfs/move")
def move() -> Response:
    """Rename a file or directory."""
    fields = parameters()
    _dbfs().move(text(fields, "source_path"), text(fields, "destination_path"))
    return jsonify({})
