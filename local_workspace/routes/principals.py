"""Say whether a user, a group or a service principal that a request names is in the workspace."""

from __future__ import annotations

from local_workspace.routes.common import all_workspaces, this_workspace
from local_workspace.store import GROUP, PRINCIPAL, USER

# How an access control entry names each kind of principal, the kind's documents, and the field that holds the name.
_FIELDS = {
    "user_name": (USER, "userName"),
    "group_name": (GROUP, "displayName"),
    "service_principal_name": (PRINCIPAL, "applicationId"),
}


def exists(name: str, field: str | None = None) -> bool:
    """Return whether there is a principal of that name; `field` says of which kind, as an entry would name it."""
    kinds = [_FIELDS[field]] if field else _FIELDS.values()
    store, workspace = all_workspaces().store, this_workspace()
    return any(one[identity] == name for kind, identity in kinds for one in store.all(workspace, kind))
