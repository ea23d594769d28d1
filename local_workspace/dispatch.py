"""Check the host name and the token of each request and hand it to MLflow's server or to the workspace's routes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from flask import Response, redirect
from werkzeug.wrappers import Response as BaseResponse

from local_workspace import mlflow_server
from local_workspace.addresses import workspace_of_host
from local_workspace.mlflow_server import WsgiApp
from local_workspace.routes.common import WORKSPACE_KEY
from local_workspace.tokens import given_token
from local_workspace.workspaces import Workspaces

_PATHS_WITHOUT_TOKEN = (
    *("/health", "/.well-known/databricks-config", "/login"),
    # A workflow has no token yet when it asks here to exchange its identity for one.
    *("/oidc/.well-known/oauth-authorization-server", "/oidc/v1/token"),
)
# Databricks' additions to MLflow's API, which MLflow's own server does not have.
_DATABRICKS_ROUTES = "/api/2.0/mlflow/databricks/"


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
        refusal = self._refusal_of_token(workspace, path, environ)
        if refusal is not None:
            return refusal(environ, start_response)
        if path == "/mlflow":
            return redirect("/mlflow/")(environ, start_response)
        if mlflow_server.serves(path) and not path.startswith(_DATABRICKS_ROUTES):
            # MLflow's pages ask for what they need with relative addresses, so they may be below /mlflow/.
            if path.startswith("/mlflow/"):
                environ["PATH_INFO"] = path.removeprefix("/mlflow")
            return self._mlflow(environ, start_response)
        environ[WORKSPACE_KEY] = workspace
        return self._routes(environ, start_response)

    def _refusal_of_token(self, workspace: str, path: str, environ: dict[str, Any]) -> BaseResponse | None:
        """Return the answer to a request without a valid token, or None when it may go on."""
        if path in _PATHS_WITHOUT_TOKEN or self._workspaces.tokens.accepts(workspace, given_token(environ)):
            return None
        if environ.get("REQUEST_METHOD") == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
            return redirect("/login")
        return _refusal(403, "PERMISSION_DENIED", "Invalid access token.")


def _refusal(status: int, error_code: str, message: str) -> Response:
    content = json.dumps({"error_code": error_code, "message": message})
    return Response(content, status=status, content_type="application/json")
