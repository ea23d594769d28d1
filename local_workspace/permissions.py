"""Check and keep the permissions of jobs, experiments and models. They are stored, not enforced."""

from __future__ import annotations

from local_workspace.errors import invalid, not_found
from local_workspace.store import GROUP, PRINCIPAL, USER, Document, Store

LEVELS = {
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE"),
    "experiments": ("CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
    "registered-models": (
        "CAN_READ",
        "CAN_EDIT",
        "CAN_MANAGE_STAGING_VERSIONS",
        "CAN_MANAGE_PRODUCTION_VERSIONS",
        "CAN_MANAGE",
    ),
}
# How an entry names each kind of principal: the kind's documents, the field of its name, and Databricks' word for it.
_PRINCIPAL_FIELDS = {
    "user_name": (USER, "userName", "UserName"),
    "group_name": (GROUP, "displayName", "GroupName"),
    "service_principal_name": (PRINCIPAL, "applicationId", "ServicePrincipalName"),
}


def is_principal(store: Store, workspace: str, name: str) -> bool:
    """Return whether a workspace has a user, a group or a service principal of that name."""
    return any(_has(store, workspace, field, name) for field in _PRINCIPAL_FIELDS)


def check_principal(store: Store, workspace: str, entry: Document) -> None:
    """Refuse a user, a group or a service principal that the workspace does not have.

    Raises: ApiError 404.
    """
    for field, (_, _, word) in _PRINCIPAL_FIELDS.items():
        if entry.get(field) and not _has(store, workspace, field, entry[field]):
            raise not_found(f"Principal: {word}({entry[field]}) does not exist")


def _has(store: Store, workspace: str, field: str, name: str) -> bool:
    kind, identity, _ = _PRINCIPAL_FIELDS[field]
    return any(one[identity] == name for one in store.all(workspace, kind))


class Permissions:
    """The access control lists of every workspace's objects, by kind of object and id."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def entries(self, workspace: str, kind: str, identifier: str) -> list[Document]:
        """Return the entries of an object: a principal's name and its permission level."""
        found = self._store.get(workspace, f"permissions/{kind}", identifier) or {"entries": []}
        return list(found["entries"])

    def set(self, workspace: str, kind: str, identifier: str, entries: list[Document]) -> None:
        """Replace the entries of an object.

        Raises: ApiError 400 for an entry that is not valid, and for a job without exactly one owner; ApiError 404 for a
        principal that does not exist.
        """
        for entry in entries:
            if sum(bool(entry.get(key)) for key in _PRINCIPAL_FIELDS) != 1:
                raise invalid("An access control entry names one user, group or service principal.")
            if entry.get("permission_level") not in LEVELS[kind]:
                raise invalid(f"{entry.get('permission_level')} is not a permission level of {kind}")
            check_principal(self._store, workspace, entry)
        if kind == "jobs" and entries and sum(entry["permission_level"] == "IS_OWNER" for entry in entries) != 1:
            raise invalid("The job must have exactly one owner.")
        self._store.put(workspace, f"permissions/{kind}", identifier, {"entries": entries})

    def update(self, workspace: str, kind: str, identifier: str, entries: list[Document]) -> None:
        """Replace the entries of the principals that are named and keep the others.

        Raises: ApiError 400 or 404, as `set` does.
        """
        named = {_principal(entry) for entry in entries}
        kept = [entry for entry in self.entries(workspace, kind, identifier) if _principal(entry) not in named]
        self.set(workspace, kind, identifier, kept + entries)

    def delete(self, workspace: str, kind: str, identifier: object) -> None:
        """Remove the entries of an object."""
        self._store.delete(workspace, f"permissions/{kind}", identifier)

    def describe(self, workspace: str, kind: str, identifier: str) -> Document:
        """Return the permissions of an object as the Permissions API answers them."""
        return {
            "object_id": f"/{kind}/{identifier}",
            "object_type": kind.removesuffix("s"),
            "access_control_list": [
                {
                    **{key: entry[key] for key in _PRINCIPAL_FIELDS if key in entry},
                    "all_permissions": [{"permission_level": entry["permission_level"], "inherited": False}],
                }
                for entry in self.entries(workspace, kind, identifier)
            ],
        }


def _principal(entry: Document) -> tuple[str, ...]:
    return tuple(str(entry.get(key) or "") for key in _PRINCIPAL_FIELDS)
