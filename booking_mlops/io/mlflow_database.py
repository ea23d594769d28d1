"""MLflow's database on this machine, when an earlier MLflow has made it."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from booking_mlops.errors import RegistryError

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
T = TypeVar("T")


def open_database(uri: str, connect: Callable[[], T]) -> T:
    """Return what `connect` returns; upgrade the SQLite database at `uri` first when an earlier MLflow has made it.

    The database as it was is kept beside the upgraded one. Any other database is its administrator's to upgrade.

    Raises: RegistryError when the upgrade fails; whatever `connect` raises.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return connect()
    except MlflowException as error:
        if not uri.startswith(_SQLITE) or "out-of-date database schema" not in str(error):
            raise
    file = Path(uri.removeprefix(_SQLITE))
    backup = file.with_name(f"{file.name}.before-mlflow-{mlflow.__version__}")
    log.info("upgrading %s for MLflow %s; it is kept as it was as %s", file.name, mlflow.__version__, backup.name)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", uri], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RegistryError(f"{file} can't be upgraded for MLflow {mlflow.__version__}: {last}; see {backup}")
    return connect()
