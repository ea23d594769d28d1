"""Set up MLflow's own server, which keeps experiments and registered models.

MLflow is imported by the functions that need it: it takes seconds, and `--help` and a usage error should not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterable
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


def mlflow_app(root: Path) -> WsgiApp:
    """Return MLflow's server as a WSGI application, with its database and artifacts below `root`."""
    # MLflow 3 answers requests for these hosts only, and reads the variable when it is imported. The workspace has
    # checked host and token before a request comes here.
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"
    from mlflow import server

    database = f"sqlite:///{root / 'mlflow.db'}"
    os.environ[server.BACKEND_STORE_URI_ENV_VAR] = database
    os.environ[server.REGISTRY_STORE_URI_ENV_VAR] = database
    os.environ[server.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[server.ARTIFACTS_DESTINATION_ENV_VAR] = (root / "mlartifacts").as_uri()
    os.environ[server.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    _create_tables(database)
    wsgi_app: WsgiApp = server.app.wsgi_app
    return wsgi_app


def model_registry() -> Any:
    """Return MLflow's store of registered models; `mlflow_app` must have been called."""
    from mlflow.server import handlers

    return handlers._get_model_registry_store()


def has_registered_model(name: str) -> bool:
    """Return whether there is a registered model of that name."""
    from mlflow.exceptions import MlflowException

    try:
        model_registry().get_registered_model(name)
    except MlflowException:
        return False
    return True


def _create_tables(database: str) -> None:
    """Create the database's tables now: the first two requests, made at once, would both try to.

    The migrations that do so replace the handlers of the root logger and write to stderr; both is undone.

    Raises: UserError when an earlier MLflow has made the database.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.server import handlers

    root_logger = logging.getLogger()
    log_handlers, level = root_logger.handlers[:], root_logger.level
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            handlers._get_tracking_store()
            handlers._get_model_registry_store()
    except MlflowException as error:
        raise UserError(
            f"MLflow can't use {database.removeprefix('sqlite:///')}: {str(error).splitlines()[0]}; upgrade it with "
            f"mlflow db upgrade {database}, or start with another --root"
        ) from error
    root_logger.handlers[:] = log_handlers
    root_logger.setLevel(level)
