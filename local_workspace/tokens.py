"""Who may call: the owner's token, and short-lived ones that a workflow gets for its identity instead of a secret."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from local_workspace.errors import ApiError
from local_workspace.store import Document, Store

_KIND = "access token"
LIFETIME = 3600
_ISSUER = "https://token.actions.githubusercontent.com"


class Tokens:
    """The owner's token opens every workspace; an exchanged one only its own, for an hour."""

    def __init__(self, store: Store, owner: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock

    def accepts(self, workspace: str, given: str) -> bool:
        """Whether `given` opens the workspace; takes as long for a near miss as for a far one."""
        if self.is_owner(given):
            return True
        found = self._store.get(workspace, _KIND, _digest(given))
        return found is not None and self._clock() < found["expires_at"]

    def is_owner(self, given: str) -> bool:
        """Whether it is the owner's."""
        return hmac.compare_digest(given.encode(), self._owner.encode())

    def identity(self, repository: str, environment: str, audience: str) -> str:
        """What GitHub would sign for a job of a repository's environment: the subject a federation policy names."""
        import jwt

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
        """A token for the service principal that trusts the identity's environment (RFC 8693).

        Raises: ApiError when the identity is not GitHub's, is for another environment or has run out, or
        nobody has that client id.
        """
        import jwt

        try:
            claims = jwt.decode(subject_token, self._key, algorithms=["HS256"], audience=audience, issuer=_ISSUER)
        except jwt.InvalidTokenError as error:
            raise ApiError(401, "invalid_grant", f"The identity is not accepted: {error}") from None
        if str(claims["sub"]).partition(":environment:")[2] != workspace:
            raise ApiError(401, "invalid_grant", f"No federation policy of {workspace} trusts {claims['sub']}")
        principals = self._store.all(workspace, "principal")
        if not any(principal["applicationId"] == client_id for principal in principals):
            raise ApiError(401, "invalid_client", f"{workspace} has no service principal {client_id}")
        token = secrets.token_urlsafe(32)
        self._store.put(
            workspace, _KIND, _digest(token), {"principal": client_id, "expires_at": self._clock() + LIFETIME}
        )
        return {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": "all-apis"}

    @property
    def _key(self) -> bytes:
        return hashlib.sha256(b"identity " + self._owner.encode()).digest()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
