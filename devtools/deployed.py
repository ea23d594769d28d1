"""Read what a workspace has: the names that dbx looks up, and the jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from booking_mlops.errors import ConfigError, WorkspaceError

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_LOOKUPS = ("service-principal://", "cluster://")
_PRINCIPALS = ("user_name", "group_name", "service_principal_name")


def resolved(client: WorkspaceClient, workflows: list[Any]) -> list[Any]:
    """Return workflows with the ids that the workspace has for the names in them.

    Raises: WorkspaceError when it does not have one; ConfigError for a reference of another kind.
    """
    ids: dict[str, str] = {}

    def look_up(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: look_up(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [look_up(inner) for inner in value]
        if not isinstance(value, str) or "://" not in value or value.startswith("file:"):
            return value
        if not value.startswith(_LOOKUPS):
            raise ConfigError(f"deployment plan can't look up {value}")
        if value not in ids:
            ids[value] = _id(client, value)
        return ids[value]

    return [look_up(workflow) for workflow in workflows]


def jobs(client: WorkspaceClient, names: Collection[str], environment: str) -> list[dict[str, Any]]:
    """Return the settings of the jobs of these names, with their permissions, and of an environment's other jobs.

    Raises: WorkspaceError when two jobs have one name: dbx refuses that too.
    """
    found: dict[str, dict[str, Any]] = {}
    for job in client.jobs.list():
        name = str(job.settings.name if job.settings else "")
        if name not in names and not name.startswith(f"{environment}-"):
            continue
        if name in found:
            raise WorkspaceError(f"there are two jobs named {name}; delete one")
        settings = client.api_client.do("GET", "/api/2.1/jobs/get", query={"job_id": job.job_id})["settings"]
        answer = client.api_client.do("GET", f"/api/2.0/permissions/jobs/{job.job_id}")
        found[name] = {**settings, "access_control_list": _entries(answer.get("access_control_list") or [])}
    return list(found.values())


def _id(client: WorkspaceClient, reference: str) -> str:
    kind, _, name = reference.partition("://")
    if kind == "cluster":
        found = [str(one.cluster_id) for one in client.clusters.list() if one.cluster_name == name]
    else:
        principals = client.service_principals.list(filter=f'displayName eq "{name}"')
        found = [str(one.application_id) for one in principals]
    if len(found) != 1:
        raise WorkspaceError(f"{reference}: the workspace has {len(found)} of that name, not one")
    return found[0]


def _entries(access: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries that were given to an object, as a job's settings write them; not those it inherits."""
    return [
        {**{key: entry[key] for key in _PRINCIPALS if key in entry}, "permission_level": permission["permission_level"]}
        for entry in access
        for permission in entry.get("all_permissions") or []
        if not permission.get("inherited")
    ]
