"""What the workspace answers, asked by the current SDK and by HTTP: identities, errors and pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, NotFound, ResourceConflict

from tests.deploy.conftest import Server

Client = Callable[..., WorkspaceClient]
SCIM = "/api/2.0/preview/scim/v2"
PRINCIPAL = "00000000-0000-0000-0000-000000000002"


@pytest.fixture
def service_principal_token(server: Server) -> str:
    """A token of staging's service principal, got as a workflow gets it."""
    audience = "http://staging.workspace.test/oidc/v1/token"
    asked = f"repository=o/r&environment=staging&audience={audience}"
    identity = server.call("staging", "GET", f"/github/identity?{asked}").json()["value"]
    answer = requests.post(
        audience,
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "client_id": PRINCIPAL,
            "subject_token": identity,
        },
        proxies={"http": server.url},
        timeout=30,
    )
    return str(answer.json()["access_token"])


class TestIdentities:
    @pytest.mark.parametrize(
        ("collection", "asked", "found"),
        [
            ("ServicePrincipals", 'displayName eq "booking-mlops-staging"', ["booking-mlops-staging"]),
            ("ServicePrincipals", "displayName eq 'booking-mlops-staging'", ["booking-mlops-staging"]),
            ("ServicePrincipals", 'displayname EQ "Booking-MLops-Staging"', ["booking-mlops-staging"]),
            ("ServicePrincipals", f"applicationId eq {PRINCIPAL}", ["booking-mlops-staging"]),
            ("ServicePrincipals", 'displayName eq "booking-mlops-prod"', []),
            ("Users", 'userName eq "developer@workspace.test"', ["developer"]),
            ("Users", 'userName eq "nobody@workspace.test"', []),
            ("Users", 'userName sw "dev" and displayName co "vel" and active pr', ["developer"]),
            ("Groups", 'displayName eq "users" or displayName eq "admins"', ["admins", "users"]),
            ("Groups", 'displayName ne "users" and displayName ew "s"', ["admins", "ml-engineers"]),
        ],
    )
    def test_a_filter_finds_what_it_says(self, server: Server, collection: str, asked: str, found: list[str]) -> None:
        answer = server.call("staging", "GET", f"{SCIM}/{collection}?filter={asked}").json()
        assert [one["displayName"] for one in answer["Resources"]] == found
        assert answer["totalResults"] == len(found)

    @pytest.mark.parametrize("asked", ["displayName", 'displayName eq "a" xor id pr', 'shoeSize eq "44"', "(id pr)"])
    def test_a_filter_that_is_none_is_refused(self, server: Server, asked: str) -> None:
        answer = server.call("dev", "GET", f"{SCIM}/Users?filter={asked}")
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert answer.json()["detail"]

    def test_the_sdk_adds_finds_and_removes_a_group(self, client: Client) -> None:
        groups = client("dev").groups
        added = groups.create(display_name="auditors")
        assert [group.id for group in groups.list(filter='displayName eq "auditors"')] == [added.id]
        with pytest.raises(ResourceConflict, match="already exists"):
            groups.create(display_name="auditors")
        groups.delete(str(added.id))
        with pytest.raises(NotFound, match="not found"):
            groups.get(str(added.id))

    def test_me_creators_and_runs_tell_a_user_from_a_service_principal(
        self, server: Server, client: Client, service_principal_token: str
    ) -> None:
        user, principal = client("staging"), client("staging", service_principal_token)
        assert user.current_user.me().user_name == "developer@workspace.test"
        me = principal.current_user.me()
        assert (me.user_name, me.display_name) == (PRINCIPAL, "booking-mlops-staging")
        theirs = server.tiny_job("staging", {"task_key": "t"}, job_name="theirs", token=service_principal_token)
        mine = server.tiny_job(
            "staging",
            {"task_key": "t", "does": "environment"},
            job_name="mine",
            run_as={"service_principal_name": PRINCIPAL},
        )
        assert user.jobs.get(theirs).creator_user_name == PRINCIPAL
        assert (user.jobs.get(theirs).run_as_user_name, user.jobs.get(mine).run_as_user_name) == (PRINCIPAL, PRINCIPAL)
        run = user.jobs.get_run(principal.jobs.run_now(mine).run_id)
        assert run.creator_user_name == PRINCIPAL
        server.wait("staging", run.run_id or 0)
        done = server.wait("staging", server.run("staging", mine))
        assert (done["creator_user_name"], done["run_as_user_name"]) == ("developer@workspace.test", PRINCIPAL)
        seen = dict(line.split("=", 1) for line in server.log("staging", done["tasks"][0]["run_id"]).splitlines())
        assert client("staging", seen["DATABRICKS_TOKEN"]).current_user.me().user_name == PRINCIPAL

    def test_clients_learn_the_workspaces_number_cloud_and_oauth_address(self, server: Server, client: Client) -> None:
        found = requests.get(
            "http://prod.workspace.test/.well-known/databricks-config", proxies={"http": server.url}, timeout=30
        ).json()
        assert found["workspace_id"].isdigit()
        asking = client("prod")
        assert asking.get_workspace_id() == int(found["workspace_id"])
        assert asking.config.is_aws
        addresses = requests.get(
            f"{found['oidc_endpoint']}/.well-known/oauth-authorization-server",
            proxies={"http": server.url},
            timeout=30,
        )
        assert addresses.json()["token_endpoint"] == "http://prod.workspace.test/oidc/v1/token"


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/api/2.0/nothing/here"),
            ("GET", "/api/2.1/jobs/create"),
            ("PUT", "/api/2.0/dbfs/list"),
            ("GET", "/api/2.0/mlflow/nothing"),
            ("DELETE", "/api/2.0/mlflow/experiments/search"),
            ("GET", "/ajax-api/2.0/mlflow/nothing"),
            ("GET", "/api/2.0/preview/mlflow/nothing"),
        ],
    )
    def test_an_unknown_route_is_json(self, server: Server, method: str, path: str) -> None:
        answer = server.call("dev", method, path)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
        assert f"'{method} {path}'" in answer.json()["message"]

    @pytest.mark.parametrize("path", ["/api/2.1/jobs/create", "/api/2.0/mlflow/experiments/create", f"{SCIM}/Users"])
    def test_a_body_that_is_no_json_is_json_refused(self, server: Server, path: str) -> None:
        answer = requests.post(
            f"{server.url}{path}",
            data="[1",
            headers={"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
            timeout=30,
        )
        assert answer.status_code == 400
        assert answer.json()["error_code"] in ("MALFORMED_REQUEST", "BAD_REQUEST", "INVALID_PARAMETER_VALUE")

    def test_pages_follow_their_tokens_and_another_token_is_refused(self, server: Server, client: Client) -> None:
        jobs = {server.tiny_job("dev", {"task_key": "t"}, job_name=f"page {index}") for index in range(3)}
        assert jobs <= {job.job_id for job in client("dev").jobs.list(limit=2)}
        first = server.api("dev", "GET", "jobs/list?limit=1")
        path = f"jobs/list?limit=1&page_token={first['next_page_token']}"
        assert server.api("dev", "GET", path)["jobs"] != first["jobs"]
        for wrong in ("zzz", "ä", first["next_page_token"][:-4]):
            with pytest.raises(BadRequest, match="Invalid page token"):
                list(client("dev").jobs.list(page_token=wrong))
        answer = server.call("dev", "GET", f"/api/2.1/jobs/runs/list?page_token={first['next_page_token']}")
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        many: Any = server.call("dev", "GET", "/api/2.1/jobs/list?limit=many")
        assert (many.status_code, many.json()["message"]) == (400, "limit must be a number, got 'many'")
