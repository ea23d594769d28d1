"""Refuse a service principal what its privileges in Unity Catalog do not allow. The owner of the server is an admin."""

from __future__ import annotations

from local_workspace.errors import ApiError
from local_workspace.routes.catalog_objects import CatalogObjects
from local_workspace.routes.common import caller
from local_workspace.store import Document

# Everybody in a workspace is in this group.
_EVERYBODY = "users"
_WORDS = {"catalog": "Catalog", "schema": "Schema", "table": "Table", "volume": "Volume", "model": "Registered Model"}
_ALL = "ALL_PRIVILEGES"


def stored_privileges(kind: str) -> str:
    """Return the kind of the documents that hold the privileges on objects of a kind."""
    return f"privileges/{kind}"


def require(catalog: CatalogObjects, privilege: str, kind: str, full_name: str) -> None:
    """Refuse a caller who has neither a privilege on an object nor owns it, or may not use what it is in.

    An object has the privileges that its schema and its catalog have.

    Raises: ApiError 403; ApiError 404 when there is no such object.
    """
    if not caller().is_service_principal:
        return
    chain = _chain(kind, full_name)
    for above, name in reversed(chain[1:]):
        use = f"USE_{above.upper()}"
        if not _allows(catalog, use, _chain(above, name)):
            raise _denied(use, above, name)
    if not _allows(catalog, privilege, chain):
        raise _denied(privilege, kind, full_name)


def require_owner(catalog: CatalogObjects, kind: str, full_name: str) -> None:
    """Refuse a caller who does not own an object and may not manage it.

    Raises: ApiError 403; ApiError 404 when there is no such object.
    """
    if caller().is_service_principal and not _allows(catalog, "MANAGE", _chain(kind, full_name)):
        message = f"User is not an owner of {_WORDS[kind]} '{full_name}'."
        raise ApiError(403, "PERMISSION_DENIED", message)


def _chain(kind: str, full_name: str) -> list[tuple[str, str]]:
    """Return an object and what it is in, innermost first, each with its kind."""
    parts = full_name.lower().split(".")
    outer = [(one, ".".join(parts[:depth])) for depth, one in ((2, "schema"), (1, "catalog")) if depth < len(parts)]
    return [(kind, full_name.lower()), *outer]


def _allows(catalog: CatalogObjects, privilege: str, chain: list[tuple[str, str]]) -> bool:
    for kind, name in chain:
        owner = catalog.get(kind, name).get("owner")
        # A schema that only Spark has written has no owner that is known: it is everybody's.
        if owner == caller().name or (owner is None and kind in ("catalog", "schema")):
            return True
        granted: Document = catalog.workspaces.store.get(catalog.workspace, stored_privileges(kind), name) or {}
        held = {one for principal in (caller().name, _EVERYBODY) for one in granted.get(principal, [])}
        if held & ({privilege} if privilege == "MANAGE" else {privilege, _ALL}):
            return True
    return False


def _denied(privilege: str, kind: str, full_name: str) -> ApiError:
    message = f"User does not have {privilege.replace('_', ' ')} on {_WORDS[kind]} '{full_name}'."
    return ApiError(403, "PERMISSION_DENIED", message)
