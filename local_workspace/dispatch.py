"""Check the host name and the token of each request and hand it to MLflow's server or to the workspace's routes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from flask import Response, redirect
from werkzeug.wrappers import Response as BaseResponse

from local_workspace import mlflow_server
from local_workspace.addresses import mlflow_url, workspace_of_host
from local_workspace.artifact_addresses import as_databricks_says, as_the_server_says
from local_workspace.dbfs import is_in_root
from local_workspace.mlflow_server import WsgiApp
from local_workspace.routes.common import CALLER_KEY, WORKSPACE_KEY
from local_workspace.tokens import given_token
from local_workspace.workspaces import Workspaces

_PATHS_WITHOUT_TOKEN = (
    *("/health", "/.well-known/databricks-config", "/login"),
    # A workflow has no token yet when it asks here to exchange its identity for one.
    *("/oidc/.well-known/oauth-authorization-server", "/oidc/v1/token"),
)
# The address of a workspace's MLflow on this machine, whatever the host name is.
_MLFLOW_OF_A_WORKSPACE = re.compile(r"/([^/]+)/mlflow(/.*|$)")
# Databricks' additions to MLflow's API, which MLflow's own server does not have.
_DATABRICKS_ROUTES = re.compile(
    r"/api/2\.0/mlflow/(databricks/|unity-catalog/|artifacts/credentials-for-|logged-models/[^/]+/artifacts/credentials-for-"
    r"|model-versions/(list-artifacts|get-signed-download-uri)$)"
)
# Its answers, and requests for it, say where artifacts are.
_ADDRESSES = re.compile(r"/api/\d\.\d/(preview/)?mlflow/")


class Dispatcher:
    """A WSGI application in front of two others: MLflow's server and the workspace's routes."""

    def __init__(self, workspaces: Workspaces, mlflow: WsgiApp, routes: WsgiApp) -> None:
        self._workspaces = workspaces
        self._mlflow = mlflow
        self._routes = routes

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path == "/health":
            return Response("OK")(environ, start_response)
        workspace = workspace_of_host(environ.get("HTTP_HOST", ""), self._workspaces.environments)
        if workspace is None:
            return _refusal(404, "FEATURE_DISABLED", "No workspace of that host name.")(environ, start_response)
        found = _MLFLOW_OF_A_WORKSPACE.match(path)
        if found and found[1] in self._workspaces.environments:
            workspace, path = found[1], f"/mlflow{found[2]}"
        environ[CALLER_KEY] = self._workspaces.tokens.caller(workspace, given_token(environ))
        if environ[CALLER_KEY] is None and path not in _PATHS_WITHOUT_TOKEN:
            return _refusal_of_token(environ)(environ, start_response)
        if (path == "/mlflow" or path.startswith("/mlflow/")) and not (found and found[2]):
            # MLflow's pages ask for what they need with relative addresses, so they may be below another.
            return redirect(f"{mlflow_url('', workspace)}{path.removeprefix('/mlflow') or '/'}")(
                environ, start_response
            )
        if mlflow_server.serves(path) and not _DATABRICKS_ROUTES.match(path):
            environ["PATH_INFO"] = path.removeprefix("/mlflow")
            mlflow_server.serve(workspace)
            # A program with the tracking URI URL/ENV/mlflow, whose paths begin otherwise, is told what the server says.
            as_databricks = _ADDRESSES.match(path) is not None
            if as_databricks:
                _replace_body(environ, as_the_server_says(_body(environ)))
            if not self._workspaces.dbfs_root and path.endswith("/mlflow/experiments/create"):
                location = _artifact_location(environ)
                if location.startswith("dbfs:/") and is_in_root(location):
                    message = f"Public DBFS root is disabled. Access is denied on path: {location}"
                    return _refusal(403, "PERMISSION_DENIED", message)(environ, start_response)
            answer = _with_json_errors(BaseResponse.from_app(self._mlflow, environ), environ)
            if as_databricks and answer.mimetype == "application/json":
                answer.set_data(as_databricks_says(answer.get_data()))
            return answer(environ, start_response)
        environ[WORKSPACE_KEY] = workspace
        return self._routes(environ, start_response)


def _with_json_errors(answer: BaseResponse, environ: dict[str, Any]) -> BaseResponse:
    """Return an answer of MLflow's server; a page that says an error of its API becomes JSON, as Databricks has it."""
    path, status = environ["PATH_INFO"], answer.status_code
    if status < 400 or answer.mimetype != "text/html" or not path.startswith(("/api/", "/ajax-api/")):
        return answer
    answer.close()
    if status in (404, 405):
        return _refusal(404, "ENDPOINT_NOT_FOUND", f"No API found for '{environ['REQUEST_METHOD']} {path}'")
    code = "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"
    return _refusal(status, code, f"MLflow's server refused the request: {answer.status}")


def _artifact_location(environ: dict[str, Any]) -> str:
    """Return where an experiment that is to be created wants its artifacts; the request can still be read after it."""
    try:
        fields = json.loads(_body(environ))
    except ValueError:
        return ""
    return str(fields.get("artifact_location") or "") if isinstance(fields, dict) else ""


def _body(environ: dict[str, Any]) -> bytes:
    """Return a request's body, which can still be read after it."""
    content: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    _replace_body(environ, content)
    return content


def _replace_body(environ: dict[str, Any], content: bytes) -> None:
    environ["wsgi.input"] = io.BytesIO(content)
    if environ.get("CONTENT_LENGTH"):
        environ["CONTENT_LENGTH"] = str(len(content))


def _refusal_of_token(environ: dict[str, Any]) -> BaseResponse:
    """Return the answer to a request without a valid token."""
    if environ.get("REQUEST_METHOD") == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
        return redirect("/login")
    return _refusal(403, "PERMISSION_DENIED", "Invalid access token.")


def _refusal(status: int, error_code: str, message: str) -> Response:
    content = json.dumps({"error_code": error_code, "message": message})
    return Response(content, status=status, content_type="application/json")
