"""Decide who may call: the owner, by a token, and a workflow, by a short-lived one that it gets for its identity."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from local_workspace.addresses import OWNER
from local_workspace.errors import ApiError
from local_workspace.store import PRINCIPAL, Document, Store

COOKIE = "workspace_token"
LIFETIME = 3600  # seconds
# A task may use the token it was started with for a day.
_LIFETIME_FOR_A_TASK = 24 * 3600
# The kind of the documents that describe exchanged tokens.
_EXCHANGED = "access token"
_ISSUER = "https://token.actions.githubusercontent.com"


@dataclass(frozen=True)
class Caller:
    """Whom a token stands for: a user by user name, or a service principal by application id."""

    name: str
    is_service_principal: bool = False


class Tokens:
    """The accepted tokens: the owner's opens every workspace, an exchanged one only its own, for an hour."""

    def __init__(self, store: Store, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock

    def caller(self, workspace: str, given: str) -> Caller | None:
        """Return whom a token stands for, or None when it does not open the workspace.

        How long that takes says nothing about the right token.
        """
        if self.is_owner(given):
            return Caller(OWNER)
        found = self._store.get(workspace, _EXCHANGED, _digest(given))
        if found is None or self._clock() >= found["expires_at"]:
            return None
        return Caller(found["principal"], is_service_principal=True)

    def is_owner(self, given: str) -> bool:
        """Return whether a token is the owner's."""
        return hmac.compare_digest(given.encode(), self._owner.encode())

    def identity(self, repository: str, environment: str, audience: str) -> str:
        """Return a signed identity (JWT) as GitHub issues one to a job that runs in an environment of a repository."""
        now = int(self._clock())
        claims = {
            "iss": _ISSUER,
            "aud": audience,
            "sub": f"repo:{repository}:environment:{environment}",
            "iat": now,
            "exp": now + 300,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def exchange(self, workspace: str, client_id: str, subject_token: str, audience: str) -> Document:
        """Exchange an identity for a token of the service principal with that client id (RFC 8693).

        Raises: ApiError 401 when the identity is not signed here, has expired or is for another environment or
        audience, or when the workspace has no such service principal.
        """
        try:
            claims = jwt.decode(subject_token, self._key, algorithms=["HS256"], audience=audience, issuer=_ISSUER)
        except jwt.InvalidTokenError as error:
            raise ApiError(401, "invalid_grant", f"The identity is not accepted: {error}") from None
        if str(claims["sub"]).partition(":environment:")[2] != workspace:
            raise ApiError(401, "invalid_grant", f"No federation policy of {workspace} trusts {claims['sub']}")
        if not self._is_service_principal(workspace, client_id):
            raise ApiError(401, "invalid_client", f"{workspace} has no service principal {client_id}")
        token = self._issue(workspace, client_id, LIFETIME)
        return {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": "all-apis"}

    def for_task(self, workspace: str, name: str) -> str:
        """Return the token of a task that runs as the user or the service principal of that name."""
        return (
            self._issue(workspace, name, _LIFETIME_FOR_A_TASK)
            if self._is_service_principal(workspace, name)
            else self._owner
        )

    def _is_service_principal(self, workspace: str, name: str) -> bool:
        return any(principal["applicationId"] == name for principal in self._store.all(workspace, PRINCIPAL))

    def _issue(self, workspace: str, principal: str, seconds: int) -> str:
        token = secrets.token_urlsafe(32)
        self._store.put(
            workspace, _EXCHANGED, _digest(token), {"principal": principal, "expires_at": self._clock() + seconds}
        )
        return token

    @property
    def _key(self) -> bytes:
        return hashlib.sha256(b"identity " + self._owner.encode()).digest()


def given_token(environ: Mapping[str, Any]) -> str:
    """Return the token of a WSGI request, from its Authorization header or its cookie; empty when it has none."""
    given = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ").strip()
    if not given:
        parts = environ.get("HTTP_COOKIE", "").split(";")
        given = dict(part.strip().split("=", 1) for part in parts if "=" in part).get(COOKIE, "")
    return str(given)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
