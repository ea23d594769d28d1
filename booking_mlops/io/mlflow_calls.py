"""Calling MLflow: its errors in one line, and without what it does to this process's variables, logging and files."""

from __future__ import annotations

import io
import logging
import os
import re
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path

from booking_mlops.errors import RegistryError


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn MLflow's and the network's errors into one line that says what was being done."""
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, OSError, *_database_errors()) as error:
        text = [without_secrets(line) for line in str(error).strip().splitlines()]
        raise RegistryError(f"{doing}: {text[0][:500] if text else type(error).__name__}") from error


def _database_errors() -> tuple[type[Exception], ...]:
    """Return the errors of MLflow's database, which MLflow passes on while it opens it."""
    # A package of MLflow's own; one that has raised an error is loaded.
    loaded = sys.modules.get("sqlalchemy.exc")
    return (sqlite3.Error, loaded.SQLAlchemyError) if loaded else (sqlite3.Error,)


def without_secrets(text: str) -> str:
    """Return the text without the user and password that its URIs may carry."""
    return re.sub(r"://[^/\s@]+@", "://", text)


@contextmanager
def own_environment() -> Iterator[None]:
    """Restore the operator's variables afterwards: MLflow overwrites them with its own settings."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def own_logging() -> Iterator[None]:
    """Restore the program's logging afterwards: creating MLflow's database replaces it by Alembic's."""
    root, database = logging.getLogger(), logging.getLogger("alembic")
    before = root.handlers[:], root.level
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        database.handlers.clear()
        database.setLevel(logging.ERROR)


@contextmanager
def without_stray_folder() -> Iterator[None]:
    """Remove the empty folder that MLflow creates in the working directory, wherever artifacts really go."""
    folder = Path("mlruns")
    own = folder.exists()
    yield
    if not own:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence MLflow's advice on stages, integers and pickles, and what it prints while it registers."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
