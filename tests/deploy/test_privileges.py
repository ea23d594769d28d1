"""Unity Catalog's privileges are enforced for service principals: staging's identity changes nothing in prod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.deploy.conftest import Server

PROD, STAGING = "00000000-0000-0000-0000-000000000003", "00000000-0000-0000-0000-000000000002"
UNITY, MODELS, FILES = "/api/2.1/unity-catalog", "/api/2.0/mlflow/unity-catalog", "/api/2.0/fs/files/Volumes"
MLMODEL = "signature: {inputs: '[]', outputs: '[]'}\n"


def token_of(server: Server, principal: str) -> str:
    """A token of a service principal in prod, exchanged for an identity that prod trusts."""
    owner, audience = {"Authorization": f"Bearer {server.token}"}, "http://prod.workspace.test/oidc/v1/token"
    asked = {"repository": "o/r", "environment": "prod", "audience": audience}
    identity = requests.get(f"{server.url}/github/identity", params=asked, headers=owner, timeout=9).json()["value"]
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "client_id": principal,
            "subject_token": identity}  # fmt: skip
    answer = requests.post(audience, data=form, proxies={"http": server.url}, timeout=9)
    return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def identities(server: Server) -> tuple[str, str]:
    """Tokens of prod's own principal, and of staging's, which somebody has added to prod."""
    path = "/api/2.0/preview/scim/v2/ServicePrincipals"
    server.call("prod", "POST", path, applicationId=STAGING, displayName="booking-mlops-staging")
    return token_of(server, PROD), token_of(server, STAGING)


def create(server: Server, token: str, kind: str, **fields: Any) -> requests.Response:
    return server.call("prod", "POST", f"{UNITY}/{kind}", token=token, **fields)


def put(server: Server, token: str, path: str, content: bytes = b"x") -> requests.Response:
    return requests.put(
        f"http://prod.workspace.test{path}?overwrite=true", data=content, timeout=9,
        headers={"Authorization": f"Bearer {token}"}, proxies={"http": server.url},
    )  # fmt: skip


def denied(answer: requests.Response) -> str:
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED"), answer.text
    return str(answer.json()["message"])


def test_stagings_identity_changes_nothing_in_prod(server: Server, identities: tuple[str, str]) -> None:
    own, other = identities
    assert create(server, own, "schemas", catalog_name="prod", name="mine").json()["owner"] == PROD
    volume = {"catalog_name": "prod", "schema_name": "mine", "name": "files", "volume_type": "MANAGED"}
    assert create(server, own, "volumes", **volume).status_code == 200
    name = "prod.mine.model"
    assert server.call("prod", "POST", f"{MODELS}/registered-models/create", token=own, name=name).status_code == 200
    version = {"name": name, "version": "1"}
    assert server.call("prod", "POST", f"{MODELS}/model-versions/create", token=own, name=name, source="x").ok
    assert put(server, own, "/api/2.0/fs/files/Models/prod/mine/model/1/MLmodel", MLMODEL.encode()).status_code == 204
    assert server.call("prod", "POST", f"{MODELS}/model-versions/finalize", token=own, **version).status_code == 200
    assert put(server, own, f"{FILES}/prod/mine/files/a.csv").status_code == 204

    alias = {**version, "alias": "champion"}
    refused = {
        "User does not have CREATE CATALOG": create(server, other, "catalogs", name="its"),
        "does not have CREATE SCHEMA on Catalog": create(server, other, "schemas", catalog_name="prod", name="its"),
        "does not have USE CATALOG on Catalog 'prod'": create(server, other, "volumes", **{**volume, "name": "its"}),
        "not have USE CATALOG": put(server, other, f"{FILES}/prod/mine/files/a.csv"),
        "not an owner of Schema 'prod.mine'": server.call("prod", "DELETE", f"{UNITY}/schemas/prod.mine", token=other),
        "not an owner of Registered Model": server.call(
            "prod", "POST", f"{MODELS}/registered-models/alias", token=other, **alias
        ),
        "User is not an owner of Catalog 'prod'": server.call(
            "prod", "PATCH", f"{UNITY}/permissions/catalog/prod", token=other,
            changes=[{"principal": STAGING, "add": ["ALL_PRIVILEGES"]}],
        ),
    }  # fmt: skip
    for message, answer in refused.items():
        assert message in denied(answer)
    assert server.call("prod", "POST", f"{MODELS}/registered-models/alias", token=own, **alias).status_code == 200


def test_what_is_granted_is_allowed_and_no_more(server: Server, identities: tuple[str, str]) -> None:
    _, other = identities
    server.volume("prod", "granted", "files")
    assert server.upload("prod", "PUT", f"{FILES}/prod/granted/files/a.csv", Path(__file__)) == 204

    def grant(kind: str, name: str, *privileges: str) -> None:
        changes = [{"principal": STAGING, "add": list(privileges)}]
        answer = server.call("prod", "PATCH", f"{UNITY}/permissions/{kind}/{name}", changes=changes)
        assert answer.status_code == 200, answer.text

    def read() -> requests.Response:
        return server.call("prod", "GET", f"{FILES}/prod/granted/files/a.csv", token=other)

    for kind, name, privilege, missing in (
        ("catalog", "prod", "USE_CATALOG", "USE CATALOG on Catalog 'prod'"),
        ("schema", "prod.granted", "USE_SCHEMA", "USE SCHEMA on Schema 'prod.granted'"),
        ("volume", "prod.granted.files", "READ_VOLUME", "READ VOLUME on Volume 'prod.granted.files'"),
    ):
        assert f"User does not have {missing}" in denied(read())
        grant(kind, name, privilege)
    assert read().status_code == 200
    assert "WRITE VOLUME" in denied(put(server, other, f"{FILES}/prod/granted/files/a.csv"))
    assert "CREATE VOLUME" in denied(create(server, other, "volumes", catalog_name="prod", schema_name="granted",
                                            name="its"))  # fmt: skip
    # A schema's privileges are those of what it holds; MANAGE is not one of all privileges.
    grant("schema", "prod.granted", "ALL_PRIVILEGES")
    assert put(server, other, f"{FILES}/prod/granted/files/a.csv").status_code == 204
    assert "not an owner" in denied(server.call("prod", "DELETE", f"{UNITY}/volumes/prod.granted.files", token=other))
    grant("schema", "prod.granted", "MANAGE")
    assert server.call("prod", "DELETE", f"{UNITY}/volumes/prod.granted.files", token=other).status_code == 200
