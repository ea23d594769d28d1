"""Say where the files of Unity Catalog's model versions lie: `/Models/CATALOG/SCHEMA/MODEL/VERSION/…`."""

from __future__ import annotations

from pathlib import Path

import yaml

from local_workspace.errors import ApiError, invalid, not_found
from local_workspace.mlflow_server import model_registry
from local_workspace.routes.access import require, require_owner
from local_workspace.routes.catalog_objects import this_catalog
from local_workspace.routes.common import all_workspaces, this_workspace

# The kind of the documents that say that a version's files are still being written.
_PENDING = "pending model version"
_DEPTH_OF_A_VERSION = 5  # Models, catalog, schema, model, version


def begin(name: str, version: str) -> None:
    """Allow that the files of a version are written, until `finish`."""
    all_workspaces().store.put(this_workspace(), _PENDING, f"{name}/{version}", {})


def is_pending(name: str, version: str) -> bool:
    """Return whether a version's files are still being written."""
    return all_workspaces().store.get(this_workspace(), _PENDING, f"{name}/{version}") is not None


def finish(name: str, version: str) -> None:
    """End the writing of a version's files.

    Raises: ApiError 400 when they are no model with a signature of inputs and outputs, which Unity Catalog asks for.
    """
    file = folder(name, version) / "MLmodel"
    described = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    if not isinstance(described, dict):
        raise invalid(f"Model version {version} of '{name}' has no file MLmodel.")
    signature = described.get("signature") or {}
    if not (signature.get("inputs") or signature.get("params")) or not signature.get("outputs"):
        raise invalid("All models in the Unity Catalog must be logged with a model signature containing both input and "
                      "output type specifications.")  # fmt: skip
    forget(name, version)


def forget(name: str, version: str) -> None:
    """Forget that a version's files are being written."""
    all_workspaces().store.delete(this_workspace(), _PENDING, f"{name}/{version}")


def folder(name: str, version: str) -> Path:
    """Return the folder of a version's files."""
    return all_workspaces().layout.models(this_workspace()).local(f"/{name.replace('.', '/')}/{version}")


def local(path: str, *, to_write: bool = False) -> Path:
    """Return the local file or directory that `/Models/CATALOG/SCHEMA/MODEL/VERSION/…` stands for.

    Raises: ApiError 400 for a path of another form; ApiError 404 when there is no such version; ApiError 403 to write
    a version whose files are complete.
    """
    parts = [part for part in path.split("/") if part]
    if len(parts) < _DEPTH_OF_A_VERSION or ".." in parts:
        raise invalid(f"Invalid path: /{path} must be /Models/CATALOG/SCHEMA/MODEL/VERSION/…")
    name, version = ".".join(parts[1:4]).lower(), parts[4]
    this_catalog().get("model", name)
    if to_write:
        require_owner(this_catalog(), "model", name)
    else:
        require(this_catalog(), "EXECUTE", "model", name)
    if not version.isdigit() or not _exists(name, version):
        raise not_found(f"Model version {version} of '{name}' does not exist.")
    if to_write and not is_pending(name, version):
        raise ApiError(
            403, "PERMISSION_DENIED", f"The files of version {version} of '{name}' can no longer be changed."
        )
    inside = "/".join(parts[_DEPTH_OF_A_VERSION:])
    return all_workspaces().layout.models(this_workspace()).local(f"/{name.replace('.', '/')}/{version}/{inside}")


def _exists(name: str, version: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        model_registry(this_workspace()).get_model_version(name, version)
    except MlflowException:
        return False
    return True
