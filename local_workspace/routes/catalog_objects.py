"""Find and keep a workspace's Unity Catalog: catalogs, schemas, tables, volumes and registered models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_workspace.errors import ApiError, invalid
from local_workspace.mlflow_server import model_registry
from local_workspace.routes.common import all_workspaces, caller, this_workspace
from local_workspace.runs.states import now
from local_workspace.store import CATALOG, SCHEMA, VOLUME, Document
from local_workspace.workspaces import Workspaces

# How many names, joined by dots, an object of a kind has.
_PARTS = {"catalog": 1, "schema": 2, "table": 3, "volume": 3, "model": 3}
_CODES = {"catalog": "CATALOG", "schema": "SCHEMA", "table": "TABLE", "volume": "VOLUME", "model": "RESOURCE"}
_SHOWN = {"model": "Routine or Model"}
_STORED = {"catalog": CATALOG, "schema": SCHEMA, "volume": VOLUME}
_MOST_MODELS = 1000
# The tag of a model, or of a version, that says who made it. Clients don't see it.
OWNER_TAG = "local_workspace.owner"
# What a new catalog has from the start.
_DEFAULT_SCHEMA = "default"


def this_catalog() -> CatalogObjects:
    """Return the Unity Catalog of the workspace that the request is for."""
    return CatalogObjects(all_workspaces(), this_workspace())


@dataclass(frozen=True)
class CatalogObjects:
    """The objects of a workspace's catalogs, by full names such as `prod.booking.bookings`, without regard to case.

    Catalogs, schemas and volumes that clients make are kept in the store. Tables, and the schemas that hold them, are
    what Spark has written to the lake; models are those of MLflow's registry.
    """

    workspaces: Workspaces
    workspace: str

    def all(self, kind: str, within: str = "") -> list[Document]:
        """Return the objects of a kind in a catalog or schema, by name.

        Raises: ApiError 404 when there is no such catalog or schema.
        """
        if within:
            self.get("schema" if "." in within else "catalog", within)
        found = self._known(kind)
        prefix = f"{within.lower()}."
        return [found[name] for name in sorted(found) if not within or name.startswith(prefix)]

    def get(self, kind: str, full_name: str) -> Document:
        """Return an object.

        Raises: ApiError 404 when there is none of that name, or not even its catalog or schema.
        """
        found = self._known(kind).get(full_name.lower())
        if found is not None:
            return found
        for depth, container in ((1, "catalog"), (2, "schema")):
            parts = full_name.split(".")
            if depth < _PARTS[kind] and ".".join(parts[:depth]).lower() not in self._known(container):
                raise _missing(container, ".".join(parts[:depth]))
        raise _missing(kind, full_name)

    def create(self, kind: str, full_name: str, fields: Document) -> Document:
        """Add a catalog, a schema or a volume.

        Raises: ApiError 400 when it exists or its name has other characters than letters, digits, `_` and `-`;
        ApiError 404 when its catalog or schema does not exist.
        """
        name = full_name.lower()
        parts = name.split(".")
        if len(parts) != _PARTS[kind] or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
            raise invalid(f"{full_name} is not a valid name of a {kind}.")
        if len(parts) > 1:
            self.get(("catalog", "schema")[len(parts) - 2], ".".join(parts[:-1]))
        if name in self._known(kind):
            raise ApiError(400, f"{_CODES[kind]}_ALREADY_EXISTS", f"{kind.capitalize()} '{name}' already exists")
        made = {"owner": caller().name, "created_by": caller().name, "created_at": now(), "updated_at": now()}
        document = {**made, "comment": str(fields.get("comment") or ""), "full_name": name}
        self.workspaces.store.put(self.workspace, _STORED[kind], name, document)
        if kind == "catalog":
            self.create("schema", f"{name}.{_DEFAULT_SCHEMA}", {})
        elif kind == "volume":
            self._volume_folder(name).mkdir(parents=True, exist_ok=True)
        return self.get(kind, name)

    def change(self, kind: str, full_name: str, fields: Document) -> Document:
        """Change the comment or the owner of a catalog, a schema or a volume.

        Raises: ApiError 404 when there is none of that name.
        """
        name = full_name.lower()
        stored = {**(self.workspaces.store.get(self.workspace, _STORED[kind], name) or self.get(kind, name))}
        stored |= {key: fields[key] for key in ("comment", "owner") if key in fields}
        self.workspaces.store.put(self.workspace, _STORED[kind], name, {**stored, "updated_at": now()})
        return self.get(kind, name)

    def delete(self, kind: str, full_name: str, *, force: bool = False) -> None:
        """Remove an object with all that it holds; a catalog or schema that holds anything needs `force`.

        Raises: ApiError 404 when there is none of that name; ApiError 400 when it is not empty.
        """
        name = str(self.get(kind, full_name)["full_name"])
        held = {"catalog": ("schema",), "schema": ("table", "volume", "model")}.get(kind, ())
        inside = [(one, document["full_name"]) for one in held for document in self.all(one, name)]
        if any(not inner.endswith(f".{_DEFAULT_SCHEMA}") for _, inner in inside) and not force:
            raise invalid(f"{kind.capitalize()} '{name}' is not empty.")
        for inner_kind, inner in inside:
            self.delete(inner_kind, inner, force=force)
        if kind == "model":
            model_registry(self.workspace).delete_registered_model(name)
            files = self.workspaces.layout.models(self.workspace).local("/" + name.replace(".", "/"))
            shutil.rmtree(files, ignore_errors=True)
        elif kind == "table":
            shutil.rmtree(self._lake_folder(name))
        elif kind == "volume":
            shutil.rmtree(self._volume_folder(name), ignore_errors=True)
        elif kind == "schema" and self._lake_folder(name).is_dir():
            shutil.rmtree(self._lake_folder(name))
        if kind in _STORED:
            self.workspaces.store.delete(self.workspace, _STORED[kind], name)

    def _known(self, kind: str) -> dict[str, Document]:
        """Return every object of a kind, described, by its full name."""
        look: dict[str, Callable[[], dict[str, Document]]] = {"table": self._tables, "model": self._models}
        found = look[kind]() if kind in look else {}
        if kind in ("catalog", "schema"):
            for name in self._lake():
                full_name = name if kind == "schema" else name.partition(".")[0]
                found[full_name] = _described(kind, {"full_name": full_name})
        if kind in _STORED:
            for document in self.workspaces.store.all(self.workspace, _STORED[kind]):
                found[document["full_name"]] = _described(kind, document)
        return found

    def _lake(self) -> dict[str, Path]:
        """Return the folders of the schemas that Spark has written, by `catalog.schema`."""
        warehouse = self.workspaces.layout.lake(self.workspace) / "warehouse"
        folders = [folder for folder in warehouse.glob("*__*.db") if folder.is_dir()]
        return {".".join(folder.name.removesuffix(".db").split("__", 1)).lower(): folder for folder in folders}

    def _tables(self) -> dict[str, Document]:
        found: dict[str, Document] = {}
        for schema, folder in self._lake().items():
            for table in folder.iterdir():
                if (table / "_delta_log").is_dir():
                    times = {"updated_at": int((table / "_delta_log").stat().st_mtime * 1000)}
                    document = {
                        "full_name": f"{schema}.{table.name.lower()}",
                        "storage_location": table.as_uri(),
                        **times,
                    }
                    found[f"{schema}.{table.name.lower()}"] = _described("table", document)
        return found

    def _models(self) -> dict[str, Document]:
        found: dict[str, Document] = {}
        for model in model_registry(self.workspace).search_registered_models(max_results=_MOST_MODELS):
            if model.name.count(".") == 2:
                times = {"created_at": model.creation_timestamp, "updated_at": model.last_updated_timestamp}
                document = {"full_name": model.name, "comment": model.description or "", **times}
                if OWNER_TAG in model.tags:
                    document["owner"] = model.tags[OWNER_TAG]
                found[model.name.lower()] = _described("model", document)
        return found

    def _lake_folder(self, name: str) -> Path:
        """Return the folder of a schema, or of a table; a schema without tables may have none."""
        catalog, schema, *table = name.split(".")
        warehouse = self.workspaces.layout.lake(self.workspace) / "warehouse"
        folder = self._lake().get(f"{catalog}.{schema}", warehouse / f"{catalog}__{schema}.db")
        return folder.joinpath(*table)

    def _volume_folder(self, name: str) -> Path:
        return self.workspaces.layout.dbfs(self.workspace).local("/Volumes/" + name.replace(".", "/"))


def create_model(full_name: str, tags: list[Any], description: str | None) -> None:
    """Add a registered model that the caller owns to the registry of the workspace that the request is for."""
    from mlflow.entities.model_registry import RegisteredModelTag

    owner = RegisteredModelTag(OWNER_TAG, caller().name)
    model_registry(this_workspace()).create_registered_model(full_name, tags=[*tags, owner], description=description)


def _described(kind: str, document: Document) -> Document:
    """Return an object as Unity Catalog's API describes it."""
    parts = str(document["full_name"]).split(".")
    names = dict(zip(("catalog_name", "schema_name"), parts[:-1], strict=False))
    fixed: dict[str, dict[str, Any]] = {
        "catalog": {"catalog_type": "MANAGED_CATALOG", "securable_type": "CATALOG"},
        "schema": {"catalog_type": "MANAGED_CATALOG", "securable_type": "SCHEMA"},
        "table": {"table_type": "MANAGED", "data_source_format": "DELTA"},
        "volume": {"volume_type": "MANAGED", "storage_location": f"dbfs:/Volumes/{'/'.join(parts)}"},
        "model": {},
    }
    return {**names, "name": parts[-1], **fixed[kind], **document}


def _missing(kind: str, name: str) -> ApiError:
    shown = _SHOWN.get(kind, kind.capitalize())
    return ApiError(404, f"{_CODES[kind]}_DOES_NOT_EXIST", f"{shown} '{name}' does not exist.")
