"""Short-lived tokens: what a workflow gets for its identity, and everything that must not get one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from booking_mlops.errors import WorkspaceError
from booking_mlops.io.workspace import Workspace
from local_workspace.errors import ApiError
from local_workspace.store import Store
from local_workspace.tokens import LIFETIME, Caller, Tokens
from tests.conftest import ROOT
from tests.deploy.conftest import Server

CLIENT = "00000000-0000-0000-0000-000000000002"
AUDIENCE = "http://staging.workspace.test/oidc/v1/token"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Tokens:
    store = Store(tmp_path / "workspace.db")
    store.put("staging", "principal", "1", {"applicationId": CLIENT})
    made = Tokens(store, "dapi" + "0" * 32, clock)
    # PyJWT has a clock of its own: what is signed must be valid by it.
    monkeypatch.setattr(Clock, "now", __import__("time").time())
    return made


def test_an_identity_is_worth_a_token_for_an_hour_in_its_own_workspace(tokens: Tokens, clock: Clock) -> None:
    identity = tokens.identity("org/repo", "staging", AUDIENCE)
    given = tokens.exchange("staging", CLIENT, identity, AUDIENCE)
    token = given["access_token"]
    assert given["expires_in"] == LIFETIME
    assert tokens.caller("staging", token) == Caller(CLIENT, is_service_principal=True)
    assert tokens.caller("prod", token) is None
    assert not tokens.is_owner(token)
    clock.now += LIFETIME
    assert tokens.caller("staging", token) is None


@pytest.mark.parametrize(
    ("environment", "audience", "client", "tampered", "expected"),
    [
        ("prod", AUDIENCE, CLIENT, False, "No federation policy of staging trusts repo:org/repo:environment:prod"),
        ("staging", "http://prod.workspace.test/oidc/v1/token", CLIENT, False, "identity is not accepted"),
        ("staging", AUDIENCE, "somebody", False, "staging has no service principal somebody"),
        ("staging", AUDIENCE, CLIENT, True, "identity is not accepted"),
    ],
    ids=["another environment", "another audience", "another principal", "tampered"],
)
def test_what_gets_no_token(
    tokens: Tokens, environment: str, audience: str, client: str, tampered: bool, expected: str
) -> None:
    identity = tokens.identity("org/repo", environment, audience)
    if tampered:
        head, body, signature = identity.split(".")
        identity = ".".join([head, body, signature[::-1]])
    with pytest.raises(ApiError) as refused:
        tokens.exchange("staging", client, identity, AUDIENCE)
    assert refused.value.status == 401
    assert expected in refused.value.message


def workflow_environment(server: Server, name: str, **more: str) -> dict[str, str]:
    """What GitHub gives a job of an environment."""
    environ = server.environment(name)
    del environ["DATABRICKS_TOKEN"]
    asked = f"repository=org/repo&environment={name}"
    return {
        **environ,
        "DATABRICKS_AUTH_TYPE": "github-oidc",
        "DATABRICKS_CLIENT_ID": CLIENT,
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{server.url}/github/identity?{asked}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": server.token,
        **more,
    }


def test_the_workflows_script_gets_one_and_masks_it_first(server: Server, tmp_path: Path) -> None:
    handed_on = tmp_path / "github_env"
    handed_on.touch()
    script = [sys.executable, str(ROOT / "devtools" / "databricks_token.py")]
    environ = workflow_environment(server, "staging", GITHUB_ENV=str(handed_on))
    done = subprocess.run(script, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, _, token = handed_on.read_text(encoding="utf-8").strip().partition("=")
    assert name == "DATABRICKS_TOKEN"
    assert done.stdout == f"::add-mask::{token}\n"
    assert server.call("staging", "GET", "/api/2.1/jobs/list", token=token).status_code == 200
    assert server.call("prod", "GET", "/api/2.1/jobs/list", token=token).status_code == 403
    # Nor can it ask for the identity of another environment.
    other = server.call("staging", "GET", "/github/identity?repository=o/r&environment=prod&audience=x", token=token)
    assert other.status_code == 403
    environ["DATABRICKS_HOST"] = "http://prod.workspace.test"
    refused = subprocess.run(script, env=environ, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "add-mask" not in refused.stdout


def test_a_secret_is_no_way_in(server: Server) -> None:
    answer = requests.post(
        "http://staging.workspace.test/oidc/v1/token",
        data={"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": server.token},
        proxies={"http": server.url},
        timeout=30,
    )
    assert answer.status_code == 400


def test_an_alarm_starts_the_job_of_that_name_unless_it_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job = server.tiny_job("dev", {"task_key": "t", "does": "sleep"}, job_name="retrain-me")
    for name, value in server.environment("dev").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DATABRICKS_HOST", "http://dev.workspace.test")
    run_id: Any = Workspace().start_job("retrain-me")
    assert server.api("dev", "GET", f"jobs/runs/get?run_id={run_id}")["job_id"] == job
    assert Workspace().start_job("retrain-me") is None
    server.api("dev", "POST", "jobs/runs/cancel", run_id=run_id)
    server.wait("dev", run_id)
    with pytest.raises(WorkspaceError, match="job retrain-you: the workspace has none of that name"):
        Workspace().start_job("retrain-you")
    assert os.environ["DATABRICKS_HOST"].endswith("workspace.test")
