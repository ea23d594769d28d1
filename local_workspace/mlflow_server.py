"""Set up MLflow's own server, which keeps experiments and registered models.

MLflow is imported by the functions that need it: it takes seconds, and `--help` and a usage error should not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_workspace.errors import UserError

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

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


# The stores of each workspace, and the workspace that the request of this thread is for.
_stores: dict[str, _Stores] = {}
_workspace: ContextVar[str] = ContextVar("workspace")


def mlflow_app(homes: Mapping[str, Path]) -> WsgiApp:
    """Return MLflow's server as a WSGI application that serves every workspace, each with stores of its own.

    `homes` holds the folder of each workspace, where its database and its artifacts are. `serve` says which workspace
    the requests of a thread are for.
    """
    # MLflow 3 answers requests for these hosts only, and reads the variable when it is imported. The workspace has
    # checked host and token before a request comes here.
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"
    os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
    with _kept_logging():
        from mlflow import server
        from mlflow.server import handlers
        from mlflow.store.model_registry import sqlalchemy_store

    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    with _kept_logging():
        new: Path | None = None
        for name, home in homes.items():
            database = home / "mlflow.db"
            if not database.exists():
                home.mkdir(parents=True, exist_ok=True)
                # To create the tables takes seconds, to copy a database that has nothing but them does not.
                if new:
                    shutil.copyfile(new, database)
                new = new or database
            _stores[name] = _open(database, home / "mlartifacts")
    # MLflow's server has one store for a process, which every request asks these functions for.
    handlers._get_tracking_store = lambda *_, **__: _stores[_workspace.get()].tracking
    handlers._get_model_registry_store = lambda *_, **__: _stores[_workspace.get()].registry
    handlers._get_artifact_repo_mlflow_artifacts = lambda: _stores[_workspace.get()].artifacts
    # The registry looks logged models up with a client of its own, which would ask the process's one store.
    sqlalchemy_store.MlflowClient = lambda: _stores[_workspace.get()].tracking
    wsgi_app: WsgiApp = server.app.wsgi_app
    return wsgi_app


def serve(workspace: str) -> None:
    """Make the requests that this thread hands to MLflow's server be for a workspace."""
    _workspace.set(workspace)


def model_registry(workspace: str) -> Any:
    """Return MLflow's store of a workspace's registered models; `mlflow_app` must have been called."""
    # It looks logged models up with the store of the workspace that this thread serves.
    serve(workspace)
    return _stores[workspace].registry


def has_registered_model(workspace: str, name: str) -> bool:
    """Return whether a workspace has a registered model of that name."""
    return _exists(lambda: _stores[workspace].registry.get_registered_model(name))


def has_experiment(workspace: str, experiment_id: str) -> bool:
    """Return whether a workspace has an experiment of that id."""
    return _exists(lambda: _stores[workspace].tracking.get_experiment(experiment_id))


def artifact_root(workspace: str, owner: str) -> str | None:
    """Return where the artifacts of a run, or of a logged model, are; None when there is none of that id."""
    from mlflow.exceptions import MlflowException

    tracking = _stores[workspace].tracking
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


@contextlib.contextmanager
def _kept_logging() -> Iterator[None]:
    """Undo what MLflow does in the block: it warns, and its migrations replace the root logger's handlers."""
    root_logger = logging.getLogger()
    log_handlers, level = root_logger.handlers[:], root_logger.level
    with contextlib.redirect_stderr(io.StringIO()):
        yield
    root_logger.handlers[:] = log_handlers
    root_logger.setLevel(level)
