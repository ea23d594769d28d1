"""Read what a request says and which workspace it is for."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import cast

from flask import Flask, Response, current_app, request

from local_workspace.addresses import workspace_id
from local_workspace.errors import ApiError, invalid
from local_workspace.store import Document
from local_workspace.tokens import Caller
from local_workspace.workspaces import Workspaces

# The dispatcher puts the name of a request's workspace here in its WSGI environment.
WORKSPACE_KEY = "local_workspace.name"
# And there, whom the request's token stands for.
CALLER_KEY = "local_workspace.caller"
_EXTENSION = "local_workspace"
_LARGEST_PAGE = 100


def install(flask: Flask, workspaces: Workspaces) -> None:
    """Make `workspaces` what `all_workspaces` returns in the application's routes."""
    flask.extensions[_EXTENSION] = workspaces
    flask.after_request(_with_workspace_id)


def _with_workspace_id(answer: Response) -> Response:
    """Add the header by which clients learn the number of the workspace."""
    answer.headers["X-Databricks-Org-Id"] = workspace_id(all_workspaces().environments, this_workspace())
    return answer


def all_workspaces() -> Workspaces:
    """Return the workspaces of the server that answers this request."""
    return cast(Workspaces, current_app.extensions[_EXTENSION])


def this_workspace() -> str:
    """Return the name of the workspace that the request is for."""
    return str(request.environ[WORKSPACE_KEY])


def caller() -> Caller:
    """Return whom the request's token stands for."""
    return cast(Caller, request.environ[CALLER_KEY])


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
    """Return the page of a list that the request asks for, and the fields of the Jobs API that lead to the next page.

    Raises: ApiError 400 for a page token that this list has not given out.
    """
    size = page_size(fields, "limit", limit, _LARGEST_PAGE)
    start = number(fields, "offset") if fields.get("offset") else 0
    page, token = page_by_token(items, fields, size, start)
    return page, {"has_more": token is not None, **({"next_page_token": token} if token else {})}


def page_size(fields: Document, name: str, default: int, largest: int) -> int:
    """Return how many entries the field `name` asks for: at least one and at most `largest`.

    Raises: ApiError 400 when it is no number.
    """
    return max(1, min(number(fields, name) if fields.get(name) else default, largest))


def page_by_token(
    items: list[Document], fields: Document, size: int, start: int = 0
) -> tuple[list[Document], str | None]:
    """Return the page of a list that the request's `page_token` leads to, and the token of the next page if any.

    Without a token the page begins at `start`.

    Raises: ApiError 400 for a token that this list has not given out.
    """
    if fields.get("page_token"):
        try:
            path, _, position = urlsafe_b64decode(str(fields["page_token"])).decode().rpartition("#")
            if path != request.path:
                raise ValueError
            start = int(position)
        except ValueError:
            raise invalid(f"Invalid page token: {fields['page_token']}") from None
    end = start + size
    token = urlsafe_b64encode(f"{request.path}#{end}".encode()).decode() if end < len(items) else None
    return items[start:end], token
