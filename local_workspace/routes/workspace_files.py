"""Answer the Workspace API: folders, files and notebooks such as `/Users/…/x.py`, also as `/Workspace/Users/…`."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from flask import Blueprint, Response, jsonify, request

from local_workspace.dbfs import Dbfs
from local_workspace.errors import ApiError, not_found
from local_workspace.routes.common import all_workspaces, base64_content, is_true, parameters, text, this_workspace
from local_workspace.store import Document

blueprint = Blueprint("workspace_files", __name__, url_prefix="/api/2.0")

_NOTEBOOK_HEADER = b"# Databricks notebook source"
# The kind of the documents that say which files are notebooks.
_NOTEBOOK = "notebook"


def _files() -> Dbfs:
    return all_workspaces().layout.workspace_files(this_workspace())


def _plain(path: str) -> str:
    """Return a path without the prefix by which clusters mount workspace files."""
    return "/" + path.removeprefix("/Workspace").strip("/")


def _existing(path: str) -> Path:
    target = _files().local(_plain(path))
    if not target.exists():
        raise not_found(f"Path ({path}) doesn't exist.")
    return target


def _described(target: Path) -> Document:
    files, found = _files(), target.stat()
    path = "/" + target.relative_to(files.root).as_posix() if target != files.root else "/"
    notebook = all_workspaces().store.get(this_workspace(), _NOTEBOOK, path)
    kind = "DIRECTORY" if target.is_dir() else "NOTEBOOK" if notebook else "FILE"
    described: Document = {
        "path": path,
        "object_type": kind,
        # The same path has the same id, as long as it is there.
        "object_id": int(sha256(f"{this_workspace()}{path}".encode()).hexdigest()[:12], 16),
        "created_at": int(found.st_ctime * 1000),
        "modified_at": int(found.st_mtime * 1000),
    }
    if kind == "FILE":
        described["size"] = found.st_size
    return {**described, **({"language": notebook["language"]} if notebook else {})}


@blueprint.post("/workspace/mkdirs")
def make_directory() -> Response:
    """Make a folder and those above it."""
    path = text(parameters(), "path")
    target = _files().local(_plain(path))
    if target.is_file():
        raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"Path ({path}) already exists and is not a folder.")
    target.mkdir(parents=True, exist_ok=True)
    return jsonify({})


@blueprint.get("/workspace/get-status")
def get_status() -> Response:
    """Describe a folder, a file or a notebook."""
    return jsonify(_described(_existing(text(parameters(), "path"))))


@blueprint.get("/workspace/list")
def list_objects() -> Response:
    """Describe what a folder holds; a file or notebook describes itself."""
    target = _existing(text(parameters(), "path"))
    entries = sorted(target.iterdir()) if target.is_dir() else [target]
    return jsonify({"objects": [_described(entry) for entry in entries]} if entries else {})


@blueprint.post("/workspace/import")
def import_object() -> Response:
    """Write a file or notebook, whose content is in the request as an uploaded file or as base64."""
    fields = dict(request.form) if request.files else parameters()
    content = next(iter(request.files.values())).read() if request.files else base64_content(fields, "content")
    path, language = text(fields, "path"), str(fields.get("language") or "")
    form = str(fields.get("format") or "SOURCE")
    if form not in ("AUTO", "RAW", "SOURCE"):
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"local_workspace imports AUTO, RAW and SOURCE, not {form}.")
    if form == "AUTO" and content.startswith(_NOTEBOOK_HEADER):
        path, language = path.removesuffix(".py"), language or "PYTHON"
    elif form == "SOURCE" and not language:
        raise ApiError(400, "INVALID_PARAMETER_VALUE", "Missing required field: language")
    elif form != "SOURCE":
        language = ""
    exists = f"{path} already exists. Please pass overwrite as true to overwrite it."
    _write(path, content, overwrite=is_true(fields, "overwrite"), refusal=(400, "RESOURCE_ALREADY_EXISTS", exists))
    if language:
        all_workspaces().store.put(this_workspace(), _NOTEBOOK, _plain(path), {"language": language})
    return jsonify({})


@blueprint.post("/workspace-files/import-file/<path:path>")
def import_file(path: str) -> Response:
    """Write a file whose content is the request's body."""
    refusal = (409, "ALREADY_EXISTS", f"Path (/{path}) already exists.")
    _write(f"/{path}", request.get_data(), overwrite=is_true(request.args, "overwrite"), refusal=refusal)
    return jsonify({})


def _write(path: str, content: bytes, *, overwrite: bool, refusal: tuple[int, str, str]) -> None:
    target = _files().local(_plain(path))
    if not target.parent.is_dir():
        raise not_found(f"The parent folder ({_plain(path).rpartition('/')[0]}) does not exist.")
    if target.is_dir() or (target.exists() and not overwrite):
        raise ApiError(*refusal)
    _files().write(_plain(path), content)
    all_workspaces().store.delete(this_workspace(), _NOTEBOOK, _plain(path))


@blueprint.get("/workspace/export")
def export() -> Response:
    """Return the content of a file or notebook, as base64 or, with `direct_download`, as it is."""
    fields = parameters()
    content = _content(text(fields, "path"))
    if is_true(fields, "direct_download"):
        return Response(content, content_type="application/octet-stream")
    return jsonify({"content": b64encode(content).decode()})


@blueprint.get("/workspace-files/<path:path>")
def read_file(path: str) -> Response:
    """Return the content of a file."""
    return Response(_content(f"/{path}"), content_type="application/octet-stream")


def _content(path: str) -> bytes:
    target = _existing(path)
    if target.is_dir():
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"{path} is a folder; local_workspace exports single files.")
    return target.read_bytes()


@blueprint.post("/workspace/delete")
def delete() -> Response:
    """Delete a file, a notebook or a folder; one that is not empty needs `recursive`."""
    fields = parameters()
    path = text(fields, "path")
    target = _existing(path)
    if target.is_dir() and any(target.iterdir()) and not is_true(fields, "recursive"):
        raise ApiError(400, "DIRECTORY_NOT_EMPTY", f"Folder ({path}) is not empty")
    if target == _files().root:
        raise ApiError(400, "INVALID_PARAMETER_VALUE", "The root folder can't be deleted.")
    _files().delete(_plain(path), recursive=True)
    all_workspaces().store.delete(this_workspace(), _NOTEBOOK, _plain(path))
    return jsonify({})
