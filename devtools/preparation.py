"""Make in Unity Catalog what a deployment needs to find: schemas, volumes, and the rights of the job's own identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booking_mlops.config.paths import databricks_path
from booking_mlops.errors import ConfigError, WorkspaceError

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

Tree = Mapping[str, Any]

_DEPTH_OF_A_VOLUME = 4  # Volumes, catalog, schema, volume
_WITHOUT_UNITY_CATALOG = ("hive_metastore", "spark_catalog")
_PRINCIPAL = "service-principal://"


@dataclass(frozen=True)
class Needs:
    """Full names: the schema of the tables and models, every schema, every volume; and where Booking.csv is."""

    tables: str | None
    schemas: tuple[str, ...]
    volumes: tuple[str, ...]
    bookings: str | None


def needs(environment: Tree, project: Tree) -> Needs:
    """Return what an environment needs, given its YAML and its part of .dbx/project.json."""
    bookings = ((environment.get("tasks") or {}).get("setup_data") or {}).get("source_csv")
    artifacts = (project.get("properties") or {}).get("artifact_location")
    volumes = [found for path in (artifacts, bookings) if (found := _volume(str(path or "")))]
    tables = f"{environment.get('catalog')}.{environment.get('schema')}"
    in_unity_catalog = environment.get("catalog") not in _WITHOUT_UNITY_CATALOG
    schemas = [*([tables] if in_unity_catalog else []), *(volume.rpartition(".")[0] for volume in volumes)]
    return Needs(
        tables if in_unity_catalog else None, tuple(dict.fromkeys(schemas)), tuple(dict.fromkeys(volumes)), bookings
    )


def identity(workflows: list[Tree]) -> str | None:
    """Return the display name of the service principal that an environment's jobs run as; None when they have none."""
    names = {str((workflow.get("run_as") or {}).get("service_principal_name") or "") for workflow in workflows}
    found = sorted(name.removeprefix(_PRINCIPAL) for name in names if name.startswith(_PRINCIPAL))
    return found[0] if found else None


def prepare(client: WorkspaceClient, needed: Needs, principal: str | None, say: Callable[[str], None]) -> None:
    """Create the schemas and volumes that are missing, and give the jobs' service principal the least rights on them.

    Whoever creates a schema or a volume owns it. Nothing is granted to a principal that is the caller.

    Raises: WorkspaceError when a catalog or the principal is missing, or the caller may not do this.
    """
    from databricks.sdk.errors import DatabricksError, NotFound

    try:
        for name in needed.schemas:
            say(f"schema {name}: {_schema(client, name)}")
        for name in needed.volumes:
            say(f"volume {name}: {_volume_made(client, name)}")
        if principal:
            _grant(client, needed, principal, say)
    except NotFound as error:
        raise WorkspaceError(f"{error}; docs/databricks.md says who makes it") from error
    except DatabricksError as error:
        raise WorkspaceError(str(error)) from error


def upload(client: WorkspaceClient, file: Path, needed: Needs) -> str:
    """Copy the bookings to where the environment reads them, and return the path.

    Raises: ConfigError when they are not read from a volume; WorkspaceError when the workspace refuses.
    """
    from databricks.sdk.errors import DatabricksError

    target = databricks_path(needed.bookings or "")
    if not needed.bookings or not target.startswith("/Volumes/"):
        raise ConfigError(f"tasks.setup_data.source_csv is {needed.bookings or 'not set'}, which is not in a volume")
    try:
        with file.open("rb") as content:
            client.files.upload(target, content, overwrite=True)
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
    except DatabricksError as error:
        raise WorkspaceError(f"{target}: {error}") from error
    return target


def _grant(client: WorkspaceClient, needed: Needs, principal: str, say: Callable[[str], None]) -> None:
    from databricks.sdk.service.catalog import PermissionsChange, Privilege

    found = list(client.service_principals.list(filter=f'displayName eq "{principal}"'))
    if len(found) != 1:
        raise WorkspaceError(f"there are {len(found)} service principals named {principal}, not one")
    application = str(found[0].application_id)
    if client.current_user.me().user_name == application:
        return
    # It makes tables and models, which it then owns, and applies the environment's permissions to the schema.
    on_tables = [Privilege.USE_SCHEMA, Privilege.CREATE_TABLE, Privilege.CREATE_MODEL, Privilege.MANAGE]
    rights = [("schema", name, on_tables if name == needed.tables else [Privilege.USE_SCHEMA])
              for name in needed.schemas]  # fmt: skip
    rights += [("volume", name, [Privilege.READ_VOLUME]) for name in needed.volumes]
    for kind, name, privileges in rights:
        client.grants.update(kind, name, changes=[PermissionsChange(principal=application, add=privileges)])
        say(f"{kind} {name}: {principal} has {', '.join(one.value for one in privileges)}")


def _schema(client: WorkspaceClient, full_name: str) -> str:
    from databricks.sdk.errors import NotFound

    catalog, schema = full_name.split(".")
    try:
        client.schemas.get(full_name)
    except NotFound:
        client.schemas.create(schema, catalog)
        return "made"
    return "is there"


def _volume_made(client: WorkspaceClient, full_name: str) -> str:
    from databricks.sdk.errors import NotFound
    from databricks.sdk.service.catalog import VolumeType

    catalog, schema, volume = full_name.split(".")
    try:
        client.volumes.read(full_name)
    except NotFound:
        client.volumes.create(catalog, schema, volume, VolumeType.MANAGED)
        return "made"
    return "is there"


def _volume(path: str) -> str | None:
    parts = databricks_path(path).strip("/").split("/")
    return ".".join(parts[1:_DEPTH_OF_A_VOLUME]) if parts[0] == "Volumes" and len(parts) > _DEPTH_OF_A_VOLUME else None
