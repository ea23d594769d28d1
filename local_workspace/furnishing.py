"""Put into a new workspace what deployment.yml expects to find there."""

from __future__ import annotations

from collections.abc import Sequence

from local_workspace.addresses import OWNER
from local_workspace.store import CATALOG, CLUSTER, GROUP, PRINCIPAL, SCHEMA, USER, Document, Store

# The groups of every workspace, and the one that deployment.yml and conf/envs name.
_GROUPS = ("admins", "users", "ml-engineers")


def furnish(store: Store, environments: Sequence[str]) -> None:
    """Give each new workspace an all-purpose cluster, a service principal, the owner, groups and a catalog."""
    for position, environment in enumerate(environments, start=1):
        with store.transaction():
            if not store.all(environment, CLUSTER):
                cluster = _cluster(environment)
                store.put(environment, CLUSTER, cluster["cluster_id"], cluster)
                principal = _principal(environment, store.next_number(), _free_application_id(store, position))
                store.put(environment, PRINCIPAL, principal["id"], principal)
            _grant_catalog(store, environment)
            # A workspace that an earlier release made has none of these.
            if not store.all(environment, USER):
                catalog, made = environment.lower(), {"owner": OWNER, "created_by": OWNER}
                store.put(environment, CATALOG, catalog, {**made, "full_name": catalog})
                store.put(environment, SCHEMA, f"{catalog}.default", {**made, "full_name": f"{catalog}.default"})
                for kind, described in (_user(), *map(_group, _GROUPS)):
                    identifier = str(store.next_number())
                    store.put(environment, kind, identifier, {**described, "id": identifier})


def _grant_catalog(store: Store, environment: str) -> None:
    """Give the service principals of a new workspace what the guide's SQL gives them, and nothing more."""
    catalog = environment.lower()
    if store.get(environment, "privileges/catalog", catalog) is None:
        principals = [found["applicationId"] for found in store.all(environment, PRINCIPAL)]
        granted = {name: ["CREATE_SCHEMA", "USE_CATALOG"] for name in principals}
        store.put(environment, "privileges/catalog", catalog, granted)


def _user() -> tuple[str, Document]:
    return USER, {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": OWNER,
        "displayName": OWNER.partition("@")[0],
        "emails": [{"type": "work", "value": OWNER, "primary": True}],
        "groups": [{"display": name, "type": "direct"} for name in ("admins", "users")],
        "active": True,
    }


def _group(name: str) -> tuple[str, Document]:
    return GROUP, {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name}


def _cluster(environment: str) -> Document:
    return {
        "cluster_id": f"1123-000000-{environment}",
        "cluster_name": "booking-mlops",
        "state": "TERMINATED",
        "spark_version": "18.x-cpu-ml-scala2.13",
        "cluster_source": "UI",
        "num_workers": 0,
        "creator_user_name": OWNER,
    }


def _principal(environment: str, number: int, application_id: str) -> Document:
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServicePrincipal"],
        "id": str(number),
        "displayName": f"booking-mlops-{environment}",
        "applicationId": application_id,
        "active": True,
    }


def _free_application_id(store: Store, position: int) -> str:
    """Return the application id with the number `position`, or the next that no workspace has.

    It is taken when an environment was added to the project before one that was furnished earlier.
    """
    taken = {found["applicationId"] for workspace in store.workspaces() for found in store.all(workspace, PRINCIPAL)}
    while (application_id := f"00000000-0000-0000-0000-{position:012d}") in taken:
        position += 1
    return application_id
