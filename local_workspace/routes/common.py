"""Read what a request says and which workspace it is for."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error
from typing import cast

from flask import Flask, current_app, request

from local_workspace.errors import ApiError, invalid
from local_workspace.store import Document
from local_workspace.workspaces import Workspaces

# The dispatcher puts the name of a request's workspace here in its WSGI environment.
WORKSPACE_KEY = "local_workspace.name"
_EXTENSION = "local_workspace"
_LARGEST_PAGE = 100


def install(flask: Flask, workspaces: Workspaces) -> None:
    """Make `workspaces` what `all_workspaces` returns in the application's routes."""
    flask.extensions[_EXTENSION] = workspaces


def all_workspaces() -> Workspaces:
    """Return the workspaces of the server that answers this request."""
    return cast(Workspaces, current_app.extensions[_EXTENSION])


def this_workspace() -> str:
    """Return the name of the workspace that the request is for."""
    return str(request.environ[WORKSPACE_KEY])


def parameters() -> Document:
    """Return the request's parameters: its query, and its JSON body, which dbx sends with GET too.

    Raises: ApiError 400 when there is a body that is not a JSON object.
    """
    given: Document = dict(request.args)
    if request.get_data():
        content = request.get_json(force=True, silent=True)
        if not isinstance(content, dict):
            raise ApiError(400, "MALFORMED_REQUEST", "The body must be a JSON object.")
        given.update(content)
    return given


def number(fields: Document, name: str) -> int:
    """Return a field that must be a number.

    Raises: ApiError 400 when it is missing or no number.
    """
    try:
        return int(fields[name])
    except KeyError:
        raise invalid(f"Missing required field: {name}") from None
    except (TypeError, ValueError):
        raise invalid(f"{name} must be a number, got {fields[name]!r}") from None


def text(fields: Document, name: str) -> str:
    """Return a field that must be there.

    Raises: ApiError 400 when it is missing or empty.
    """
    if not fields.get(name):
        raise invalid(f"Missing required field: {name}")
    return str(fields[name])


def base64_content(fields: Document, name: str) -> bytes:
    """Return the content of a field that is base64; a missing one is empty.

    Raises: ApiError 400 when it is not base64.
    """
    try:
        return b64decode(str(fields.get(name) or ""), validate=True)
    except Error:
        raise invalid(f"{name} must be base64") from None


def is_true(fields: Document, name: str) -> bool:
    """Return whether a field is true, as JSON or as text; a missing one is not."""
    return str(fields.get(name, "")).lower() == "true"


def one_page(items: list[Document], fields: Document, limit: int) -> tuple[list[Document], Document]:
    """Return the page of a list that the request asks for, and the fields that lead to the next page."""
    size = max(1, min(int(fields.get("limit") or limit), _LARGEST_PAGE))
    start = int(fields.get("page_token") or fields.get("offset") or 0)
    more = start + size < len(items)
    rest: Document = {"has_more": more}
    if more:
        rest["next_page_token"] = str(start + size)
    return items[start : start + size], rest
