"""MLflow's database on this machine: made and upgraded by one process at a time, and at home where its lake is."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from booking_mlops.errors import RegistryError

log = logging.getLogger(__name__)

_SQLITE = "sqlite:///"
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
"""Where MLflow's database, of whatever version, holds addresses of files: table and column."""
_PATIENCE = 60.0
"""Seconds to wait for another process that writes to the database."""
T = TypeVar("T")


def open_database(uri: str, connect: Callable[[], T]) -> T:
    """Return what `connect` returns; upgrade the SQLite database at `uri` when an earlier MLflow has made it.

    The database as it was is kept beside the upgraded one. Any other database is its administrator's to upgrade.

    Raises: RegistryError when the upgrade fails; whatever `connect` raises.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    if not uri.startswith(_SQLITE):
        return connect()
    file = Path(uri.removeprefix(_SQLITE))
    with _kept_if_upgraded(file, file.with_name(f"{file.name}.before-mlflow-{mlflow.__version__}")):
        try:
            # Some releases of MLflow upgrade a database when they open it, others want it to be asked for.
            return connect()
        except MlflowException as error:
            if "out-of-date database schema" not in str(error):
                raise
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "db", "upgrade", uri], capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RegistryError(f"{file} can't be upgraded for MLflow {mlflow.__version__}: {last}")
        return connect()


@contextmanager
def _kept_if_upgraded(file: Path, backup: Path) -> Iterator[None]:
    """Keep the database as it was before the block as `backup`, when the block upgrades it and there is none yet.

    Raises: RegistryError when it can't be kept, before the block.
    """
    before = _revision(file)
    # A folder that can't be written to has no database that can be upgraded.
    if before in (None, _newest_revision()) or backup.exists() or not os.access(file.parent, os.W_OK):
        yield
        return
    part = backup.with_name(f"{backup.name}.{os.getpid()}.part")
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        part.unlink(missing_ok=True)
        raise RegistryError(f"{file} has to be upgraded, and can't be copied before: {error}") from error
    try:
        yield
    finally:
        if _revision(file) == before:
            part.unlink()
        else:
            part.replace(backup)
            log.info("%s is upgraded for a newer MLflow; it is kept as it was as %s", file, backup.name)


# MLflow imports all its migrations to find it.
@cache
def _newest_revision() -> str | None:
    """Return what the tables of the installed MLflow are like; None when it does not say."""
    with suppress(ImportError):
        from mlflow.store.db.utils import _get_latest_schema_revision

        return str(_get_latest_schema_revision())
    return None


def _revision(file: Path) -> str | None:
    """Return what MLflow's tables are like, as MLflow says it; None when there are none."""
    if not file.is_file():
        return None
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as opened:
        found = opened.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found[0]) if found else None
    return None


@contextmanager
def lakes_own(artifacts: Path) -> Iterator[None]:
    """Open the lake's database in the block, while no other process does; `artifacts` is where its files are.

    MLflow makes the tables when it opens the database, and fails when another process is making them. What a process
    has not said about files it keeps in its working directory, which may be read-only: for the block that is the lake.
    """
    lake = artifacts.parent
    lake.mkdir(parents=True, exist_ok=True)
    with _alone(lake / "mlflow.db.lock"), _working_directory(lake):
        yield
        move_addresses(lake / "mlflow.db", artifacts)


@contextmanager
def _working_directory(lake: Path) -> Iterator[None]:
    """Work in the lake for the block, where the process's own directory can't be written to or is gone."""
    try:
        before: Path | None = Path.cwd()
    except OSError:
        before = None
    if before is not None and os.access(before, os.W_OK):
        yield
        return
    os.chdir(lake)
    try:
        yield
    finally:
        if before is not None:
            os.chdir(before)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    try:
        opened = lock.open("a")
    except OSError:
        # Nobody makes tables in a lake that can't be written to.
        yield
        return
    with opened:
        # Some network's file systems have no locks.
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def move_addresses(database: Path, artifacts: Path) -> None:
    """Let the database's addresses of files be those of its own lake, which was moved or copied since it had others.

    Raises: RegistryError when the database can't be written.
    """
    lake, end = artifacts.parent, f"/{artifacts.name}"
    with closing(sqlite3.connect(database, timeout=_PATIENCE)) as opened, opened:
        found = opened.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        # Experiments that somebody else has made keep their files where that person wants them.
        homes = {one.removesuffix(end) for (one,) in found if one and one.startswith("file:///") and one.endswith(end)}
        homes = {home for home in homes - {lake.as_uri()} if _is_here(opened, home, artifacts)}
        if not homes:
            return
        log.info("%s was moved or copied: MLflow's database takes note", lake)
        try:
            for home in homes:
                _replace_beginning(opened, home, lake.as_uri())
                _replace_beginning(opened, unquote(urlsplit(home).path), str(lake))
        except sqlite3.OperationalError as error:
            raise RegistryError(f"{lake} was moved or copied, and {database} can't take note of it: {error}") from error


def _is_here(opened: sqlite3.Connection, home: str, artifacts: Path) -> bool:
    """Say whether a run's files that the database has below `home` are below `artifacts`, or there are no such runs."""
    runs = opened.execute(
        "SELECT run_uuid FROM runs WHERE substr(artifact_uri, 1, length(:home)) = :home "
        "ORDER BY start_time DESC LIMIT 100",
        {"home": f"{home}/"},
    ).fetchall()
    return not runs or any((artifacts / run).exists() for (run,) in runs)


def _replace_beginning(opened: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in _ADDRESSES:
        if column in {name for _, name, *_ in opened.execute(f"PRAGMA table_info({table})")}:
            opened.execute(
                f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                f"WHERE substr({column}, 1, length(:old) + 1) = :old || '/'",
                {"old": old, "new": new},
            )
