"""Decide who may call: the owner, by a token, and a workflow, by a short-lived one that it gets for its identity."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from local_workspace.errors import ApiError
from local_workspace.store import PRINCIPAL, Document, Store

COOKIE = "workspace_token"
LIFETIME = 3600  # seconds
# The kind of the documents that describe exchanged tokens.
_EXCHANGED = "access token"
_ISSUER = "https://token.actions.githubusercontent.com"


class Tokens:
    """The accepted tokens: the owner's opens every workspace, an exchanged one only its own, for an hour."""

    def __init__(self, store: Store, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock

    def accepts(self, workspace: str, given: str) -> bool:
        """Return whether a token opens the workspace; how long that takes says nothing about the right one."""
        if self.is_owner(given):
            return True
        found = self._store.get(workspace, _EXCHANGED, _digest(given))
        return found is not None and self._clock() < found["expires_at"]

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
        principals = self._store.all(workspace, PRINCIPAL)
        if not any(principal["applicationId"] == client_id for principal in principals):
            raise ApiError(401, "invalid_client", f"{workspace} has no service principal {client_id}")
        token = secrets.token_urlsafe(32)
        self._store.put(
            workspace, _EXCHANGED, _digest(token), {"principal": client_id, "expires_at": self._clock() + LIFETIME}
        )
        return {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": "all-apis"}

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
