"""Spell where the artifacts of runs and logged models are, as Databricks does and as MLflow's server does.

MLflow's server says `mlflow-artifacts:/…`, which only a client with an http tracking URI can resolve. With the tracking
URI `databricks` a client expects `dbfs:/databricks/mlflow-tracking/…`, which it reads and writes by the Files API or by
presigned addresses.
"""

from __future__ import annotations

import re

# Where the Files API has them; with an experiment's id behind it.
FILES = ("WorkspaceInternal", "Mlflow", "Artifacts")
_RUNS, _MODELS = "Runs", "LoggedModels"
_SERVERS = b"mlflow-artifacts:/"
_DATABRICKS = b"dbfs:/databricks/mlflow-tracking/"
_SERVERS_MODEL = re.compile(re.escape(_SERVERS) + rb"(\d+)/models/")
_DATABRICKS_MODEL = re.compile(re.escape(_DATABRICKS) + rb"(\d+)/logged_models/")
_ADDRESS = re.compile(rf"{_SERVERS.decode()}(\d+)/(models/)?([^/]+)/(.+)")


def as_databricks_says(text: bytes) -> bytes:
    """Return an answer of MLflow's server with the addresses of artifacts that Databricks gives."""
    return _SERVERS_MODEL.sub(_DATABRICKS + rb"\1/logged_models/", text).replace(_SERVERS, _DATABRICKS)


def as_the_server_says(text: bytes) -> bytes:
    """Return a request with the addresses that MLflow's server knows."""
    return _DATABRICKS_MODEL.sub(_SERVERS + rb"\1/models/", text).replace(_DATABRICKS, _SERVERS)


def path_of(address: str) -> str | None:
    """Return the path by which the Files API has an artifact; None when its address is of another kind."""
    if address.startswith("dbfs:/Volumes/"):
        return address.removeprefix("dbfs:/")
    found = _ADDRESS.fullmatch(as_the_server_says(address.encode()).decode())
    return "/".join((*FILES, found[1], _MODELS if found[2] else _RUNS, found[3], found[4])) if found else None


def stored(parts: list[str]) -> str | None:
    """Return where below the artifacts' folder a path of the Files API, as its parts, leads; None when it is none."""
    if tuple(parts[:3]) != FILES or len(parts) < 7 or ".." in parts or parts[4] not in (_RUNS, _MODELS):
        return None
    experiment, kind, owner, *inside = parts[3:]
    return "/".join([experiment, *(["models"] if kind == _MODELS else []), owner, *inside])
