"""Set up MLflow's own server, which keeps experiments and registered models.

MLflow is imported when the first request for it comes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging.config
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_workspace.errors import UserError

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_DATABASE, _OPENED_BY = "mlflow.db", "mlflow.version"
_PATHS = (
    *("/api/2.0/mlflow", "/api/2.0/mlflow-artifacts", "/api/2.0/preview/mlflow", "/api/3.0/mlflow", "/ajax-api"),
    *("/static-files", "/graphql", "/get-artifact", "/model-versions/get-artifact", "/version", "/mlflow"),
)


def serves(path: str) -> bool:
    """Return whether MLflow's server answers requests for a path."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in _PATHS)


@dataclass(frozen=True)
class _Stores:
    """What MLflow's server keeps for one workspace: experiments, registered models and artifacts."""

    tracking: Any
    registry: Any
    artifacts: Any


class _Server:
    """MLflow's server and the stores of each workspace, from the first request that needs them on.

    Most commands of `python -m local_workspace` need none, and to import MLflow and make its databases takes seconds.
    """

    def __init__(self) -> None:
        self.homes: Mapping[str, Path] = {}
        self._lock = threading.Lock()
        self._app: WsgiApp | None = None
        self._stores: dict[str, _Stores] = {}

    def app(self) -> WsgiApp:
        """Return MLflow's server as a WSGI application."""
        with self._lock:
            if self._app is None:
                self._app = self._start()
            return self._app

    def stores(self, workspace: str) -> _Stores:
        """Return the stores of a workspace."""
        self.app()
        return self._stores[workspace]

    def _start(self) -> WsgiApp:
        # MLflow 3 answers requests for these hosts only, and reads the variable when it is imported. The workspace has
        # checked host and token before a request comes here.
        os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"
        os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
        with _quiet():
            from mlflow import server
            from mlflow.server import handlers
            from mlflow.store.model_registry import sqlalchemy_store

            os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
            os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
            new: Path | None = None
            for name, home in self.homes.items():
                database = home / _DATABASE
                if not database.exists():
                    home.mkdir(parents=True, exist_ok=True)
                    # To create the tables takes seconds, to copy a database that has nothing but them does not.
                    if new:
                        shutil.copyfile(new, database)
                    new = new or database
                self._stores[name] = _open(database, home / "mlartifacts")
                (home / _OPENED_BY).write_text(_mlflow_version(), encoding="utf-8")
        # MLflow's server has one store for a process, which every request asks these functions for.
        handlers._get_tracking_store = lambda *_, **__: self._stores[_workspace.get()].tracking
        handlers._get_model_registry_store = lambda *_, **__: self._stores[_workspace.get()].registry
        handlers._get_artifact_repo_mlflow_artifacts = lambda: self._stores[_workspace.get()].artifacts
        # The registry looks logged models up with a client of its own, which would ask the process's one store.
        sqlalchemy_store.MlflowClient = lambda: self._stores[_workspace.get()].tracking
        wsgi_app: WsgiApp = server.app.wsgi_app
        return wsgi_app


# MLflow's server is one for a process, and the workspace is that of this thread's request.
_server = _Server()
_workspace: ContextVar[str] = ContextVar("workspace")


def mlflow_app(homes: Mapping[str, Path]) -> WsgiApp:
    """Return MLflow's server as a WSGI application that serves every workspace, each with stores of its own.

    `homes` holds the folder of each workspace, where its database and its artifacts are. `serve` says which workspace
    the requests of a thread are for.

    Raises: UserError when an earlier MLflow has made one of the databases.
    """
    _server.homes = homes
    if any(home.joinpath(_DATABASE).exists() and _opened_by(home) != _mlflow_version() for home in homes.values()):
        _server.app()
    return lambda environ, start_response: _server.app()(environ, start_response)


def _opened_by(home: Path) -> str | None:
    """Return the version of MLflow that opened a workspace's database last."""
    note = home / _OPENED_BY
    return note.read_text(encoding="utf-8") if note.exists() else None


def serve(workspace: str) -> None:
    """Make the requests that this thread hands to MLflow's server be for a workspace."""
    _workspace.set(workspace)


def model_registry(workspace: str) -> Any:
    """Return MLflow's store of a workspace's registered models; `mlflow_app` must have been called."""
    # It looks logged models up with the store of the workspace that this thread serves.
    serve(workspace)
    return _server.stores(workspace).registry


def has_registered_model(workspace: str, name: str) -> bool:
    """Return whether a workspace has a registered model of that name."""
    return _exists(lambda: _server.stores(workspace).registry.get_registered_model(name))


def has_experiment(workspace: str, experiment_id: str) -> bool:
    """Return whether a workspace has an experiment of that id."""
    return _exists(lambda: _server.stores(workspace).tracking.get_experiment(experiment_id))


def artifact_root(workspace: str, owner: str) -> str | None:
    """Return where the artifacts of a run, or of a logged model, are; None when there is none of that id."""
    from mlflow.exceptions import MlflowException

    tracking = _server.stores(workspace).tracking
    try:
        return str(tracking.get_run(owner).info.artifact_uri)
    except MlflowException:
        pass
    try:
        return str(tracking.get_logged_model(owner).artifact_location)
    except (MlflowException, AttributeError):
        # MLflow 2 has no logged models.
        return None


def _exists(look: Callable[[], object]) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        look()
    except (MlflowException, ValueError):
        return False
    return True


def _open(database: Path, artifacts: Path) -> _Stores:
    """Open a workspace's stores, and create the tables of a new database.

    Raises: UserError when an earlier MLflow has made the database.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.server import handlers
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    uri = f"sqlite:///{database}"
    try:
        tracking = handlers._tracking_store_registry.get_store(uri, "mlflow-artifacts:/")
        registry = handlers._model_registry_store_registry.get_store(uri)
    except MlflowException as error:
        raise UserError(
            f"MLflow can't use {database}: {str(error).splitlines()[0]}; upgrade it with "
            f"mlflow db upgrade {uri}, or start with another --root"
        ) from error
    return _Stores(tracking, registry, get_artifact_repository(artifacts.as_uri()))


def _mlflow_version() -> str:
    return importlib.metadata.version("mlflow")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow in the block from warning, and MLflow 2's migrations from replacing the root logger's handlers."""
    configure = logging.config.fileConfig
    logging.config.fileConfig = lambda *_, **__: None
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.config.fileConfig = configure
