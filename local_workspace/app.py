"""Assemble the server: the routes of each API, MLflow's server, and the dispatcher in front of both."""

from __future__ import annotations

from flask import Flask

from local_workspace.dispatch import Dispatcher
from local_workspace.mlflow_server import WsgiApp
from local_workspace.routes import (
    artifacts,
    clusters,
    common,
    contexts,
    dbfs,
    error_answers,
    files,
    jobs,
    mlflow,
    model_registry,
    oauth,
    pages,
    permissions,
    runs,
    scim,
    unity_catalog,
    workspace_files,
)
from local_workspace.workspaces import Workspaces

_JOBS_API_VERSIONS = ("2.0", "2.1", "2.2")


def create_app(workspaces: Workspaces, mlflow_app: WsgiApp) -> WsgiApp:
    """Return the whole server as one WSGI application."""
    flask = Flask("local_workspace")
    common.install(flask, workspaces)
    error_answers.register(flask)
    pages.register(flask)
    for version in _JOBS_API_VERSIONS:
        for api in (jobs, runs):
            name = f"{api.blueprint.name}-{version.replace('.', '-')}"
            flask.register_blueprint(api.blueprint, url_prefix=f"/api/{version}/jobs", name=name)
    for routes in (
        *(dbfs, files, workspace_files, clusters, scim, permissions, contexts, oauth),
        *(unity_catalog, mlflow, artifacts, model_registry),
    ):
        flask.register_blueprint(routes.blueprint)
    return Dispatcher(workspaces, mlflow_app, flask.wsgi_app)
