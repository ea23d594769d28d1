"""The workspace's own behaviour, over HTTP, with real processes from a tiny wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT
from tests.deploy.conftest import Server

PRINCIPAL = "00000000-0000-0000-0000-000000000003"


def results(run: dict[str, Any]) -> dict[str, str]:
    return {task["task_key"]: task["state"]["result_state"] for task in run["tasks"]}


def _after(*keys: str) -> dict[str, Any]:
    return {"depends_on": [{"task_key": key} for key in keys]}


def alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


class TestRuns:
    def test_tasks_follow_their_dependencies_and_a_failure_stops_only_what_is_downstream(self, server: Server) -> None:
        job = server.tiny_job(
            "dev",
            {"task_key": "a"},
            {"task_key": "bad", "does": "fail", "depends_on": [{"task_key": "a"}]},
            {"task_key": "after_bad", "depends_on": [{"task_key": "bad"}]},
            {"task_key": "last", "depends_on": [{"task_key": "after_bad"}, {"task_key": "independent"}]},
            {"task_key": "independent"},
        )
        run = server.wait("dev", server.run("dev", job))
        assert (run["state"]["life_cycle_state"], run["state"]["result_state"]) == ("INTERNAL_ERROR", "FAILED")
        assert results(run) == {
            "a": "SUCCESS", "bad": "FAILED", "after_bad": "UPSTREAM_FAILED", "last": "UPSTREAM_FAILED",
            "independent": "SUCCESS",
        }  # fmt: skip
        times = {task["task_key"]: task for task in run["tasks"]}
        assert times["bad"]["start_time"] >= times["a"]["end_time"]
        assert times["after_bad"]["state"]["life_cycle_state"] == "SKIPPED"
        output = server.api("dev", "GET", f"jobs/runs/get-output?run_id={times['bad']['run_id']}")
        assert "about to fail" in output["logs"]
        assert output["error"] == "RuntimeError: on purpose"
        assert output["error_trace"].startswith("Traceback")

    def test_a_task_that_fails_is_tried_again(self, server: Server) -> None:
        job = server.tiny_job("dev", {"task_key": "t", "does": "second_time", "max_retries": 1}, job_name="retry")
        run = server.wait("dev", server.run("dev", job))
        assert results(run) == {"t": "SUCCESS"}
        assert run["tasks"][0]["attempt_number"] == 1
        assert "Attempt 2 of 2 follows" in server.log("dev", run["tasks"][0]["run_id"])

    def test_a_task_that_takes_too_long_is_ended_with_all_it_started(self, server: Server) -> None:
        job = server.tiny_job("dev", {"task_key": "t", "does": "sleep", "timeout_seconds": 2}, job_name="slow")
        run = server.wait("dev", server.run("dev", job))
        assert results(run) == {"t": "TIMEDOUT"}
        assert not alive(int(server.log("dev", run["tasks"][0]["run_id"]).split()[1]))

    def test_a_run_that_takes_too_long_is_ended(self, server: Server) -> None:
        tasks = [{"task_key": "t", "does": "sleep"}, {"task_key": "u", "depends_on": [{"task_key": "t"}]}]
        job = server.tiny_job("dev", *tasks, job_name="slow run", timeout_seconds=2)
        run = server.wait("dev", server.run("dev", job))
        assert run["state"]["result_state"] == "TIMEDOUT"
        assert results(run)["u"] == "TIMEDOUT"

    def test_a_cancelled_run_leaves_no_process_and_another_may_begin(self, server: Server) -> None:
        job = server.tiny_job("dev", {"task_key": "t", "does": "sleep"}, job_name="cancel", max_concurrent_runs=1)
        run_id = server.run("dev", job)
        run = server.until("dev", run_id, lambda r: "child" in server.log("dev", r["tasks"][0]["run_id"]))
        child = int(server.log("dev", run["tasks"][0]["run_id"]).split()[1])
        assert alive(child)
        refused = server.wait("dev", server.run("dev", job))
        assert refused["state"]["life_cycle_state"] == "SKIPPED"
        assert "max_concurrent_runs" in refused["state"]["state_message"]
        server.api("dev", "POST", "jobs/runs/cancel", run_id=run_id)
        assert server.wait("dev", run_id)["state"]["result_state"] == "CANCELED"
        assert not alive(child)
        active = server.api("dev", "GET", f"jobs/runs/list?job_id={job}&active_only=true")
        assert active.get("runs", []) == []

    def test_parameters_of_a_launch_replace_the_jobs_and_dbfs_is_a_path(self, server: Server) -> None:
        job = server.tiny_job("dev", {"task_key": "t"}, job_name="parameters")
        given = ["--file", "/dbfs/libs/x", "/dbfs/Volumes/a/b/c/x", "dbfs:/Volumes/a/b/c/x"]
        run = server.wait("dev", server.run("dev", job, python_params=given))
        log = server.log("dev", run["tasks"][0]["run_id"])
        # Volumes are not below /dbfs on every cluster.
        assert f"['--file', '{server.root.resolve()}/workspaces/dev/dbfs/libs/x', {str(given[2:])[1:]}" in log

    def test_an_existing_cluster_is_started_when_it_sleeps(self, server: Server) -> None:
        (cluster,) = server.api("staging", "GET", "clusters/list")["clusters"]
        assert cluster["state"] == "TERMINATED"
        task = {"task_key": "t", "existing_cluster_id": cluster["cluster_id"], "new_cluster": None}
        run = server.wait("staging", server.run("staging", server.tiny_job("staging", task, job_name="on cluster")))
        assert results(run) == {"t": "SUCCESS"}
        assert server.api("staging", "GET", "clusters/list")["clusters"][0]["state"] == "RUNNING"

    def test_a_task_sees_no_secret_but_the_workspaces_own(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = server.tiny_job("prod", {"task_key": "t", "does": "environment"}, job_name="environment")
        run = server.wait("prod", server.run("prod", job))
        log = server.log("prod", run["tasks"][0]["run_id"])
        assert "MLFLOW_TRACKING_URI=databricks\n" in log
        assert "MLFLOW_REGISTRY_URI" not in log
        assert "BOOKING_LAKE=" in log
        assert "DBX_" not in log
        assert "GITHUB_TOKEN" not in log

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"libraries": [{"whl": "/Volumes/dev/default/libs/none.whl"}]},
                "library /Volumes/dev/default/libs/none.whl is not there",
            ),
            ({"libraries": [{"pypi": {"package": "x"}}]}, "installs wheels only, not pypi"),
            ({"libraries": []}, "no library of this task has a package named tiny"),
            ({"does": "nothing"}, "tiny 0.1 has no entry point named nothing"),
        ],
    )
    def test_a_task_that_cannot_start_says_why(self, server: Server, change: dict[str, Any], message: str) -> None:
        job = server.tiny_job("dev", {"task_key": "t", **change}, job_name=f"broken {message}")
        run = server.wait("dev", server.run("dev", job))
        assert results(run) == {"t": "FAILED"}
        assert message in server.api("dev", "GET", f"jobs/runs/get-output?run_id={run['tasks'][0]['run_id']}")["error"]

    def test_tasks_on_one_cluster_share_its_jvm_but_not_with_one_that_failed_or_is_busy(self, server: Server) -> None:
        shared = {"job_cluster_key": "shared", "new_cluster": None}
        # A service principal's tasks have a token each, which must make no difference.
        job = server.tiny_job(
            "prod",
            {"task_key": "first", "does": "jvm", **shared},
            {"task_key": "fails_once", "does": "jvm_then_fail_once", "max_retries": 1, **_after("first"), **shared},
            {"task_key": "waits", "does": "jvm_then_wait", **_after("fails_once"), **shared},
            {"task_key": "beside", "does": "jvm_then_wait", **_after("fails_once"), **shared},
            {"task_key": "elsewhere", "does": "jvm", **_after("first")},
            job_name="jvm",
            run_as={"service_principal_name": PRINCIPAL},
            job_clusters=[{"job_cluster_key": "shared", "new_cluster": {"spark_version": "15.4.x-scala2.12"}}],
        )
        run = server.wait("prod", server.run("prod", job))
        logs = {task["task_key"]: server.log("prod", task["run_id"]) for task in run["tasks"]}
        assert set(results(run).values()) == {"SUCCESS"}, logs
        seen = {key: [int(found) for found in re.findall(r"^jvm (\d+) 3$", text, re.M)] for key, text in logs.items()}
        (first,), (failed, second), (elsewhere,) = seen["first"], seen["fails_once"], seen["elsewhere"]
        assert failed == first
        assert second != first
        assert {*seen["waits"], *seen["beside"]} > {second}
        assert len({first, second, *seen["waits"], *seen["beside"], elsewhere}) == 4
        server.until("prod", run["run_id"], lambda _: not any(alive(one) for found in seen.values() for one in found))


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "code", "message"),
        [
            ("GET", "/api/2.1/jobs/get?job_id=999999", {}, 400, "INVALID_PARAMETER_VALUE", "Job 999999 does not"),
            ("GET", "/api/2.1/jobs/get", {}, 400, "INVALID_PARAMETER_VALUE", "Missing required field: job_id"),
            ("GET", "/api/2.1/jobs/get?job_id=x", {}, 400, "INVALID_PARAMETER_VALUE", "must be a number"),
            ("GET", "/api/2.1/jobs/runs/get?run_id=999999", {}, 404, "RESOURCE_DOES_NOT_EXIST", "Run 999999"),
            ("POST", "/api/2.1/jobs/runs/cancel", {"run_id": 999999}, 404, "RESOURCE_DOES_NOT_EXIST", "Run 999999"),
            ("POST", "/api/2.1/jobs/create", {"tasks": []}, 400, "INVALID_PARAMETER_VALUE", "name is missing"),
            ("GET", "/api/2.0/permissions/jobs/999999", {}, 404, "RESOURCE_DOES_NOT_EXIST", "Job 999999"),
            ("GET", "/api/2.1/jobs/runs/export?run_id=4242", {}, 404, "RESOURCE_DOES_NOT_EXIST", "Run 4242"),
            ("GET", "/api/2.0/instance-pools/list", {}, 404, "ENDPOINT_NOT_FOUND", "/api/2.0/instance-pools/list"),
            ("POST", "/api/1.2/contexts/create", {"clusterId": "x"}, 400, "INVALID_STATE", "not running"),
            ("GET", "/api/1.2/contexts/status?contextId=9", {}, 404, "RESOURCE_DOES_NOT_EXIST", "ContextNotFound"),
        ],
    )
    def test_errors_are_databricks(
        self, server: Server, method: str, path: str, body: dict[str, Any], status: int, code: str, message: str
    ) -> None:
        answer = server.call("dev", method, path, **body)
        assert (answer.status_code, answer.json()["error_code"]) == (status, code)
        assert message in answer.json()["message"]

    def test_an_unknown_endpoint_is_in_the_log(self, server: Server) -> None:
        server.call("dev", "GET", "/api/2.0/secrets/list")
        assert "/api/2.0/secrets/list is not an endpoint" in (server.root.parent / "server.log").read_text()

    def test_a_body_that_is_no_json_is_refused(self, server: Server) -> None:
        answer = requests.post(
            f"{server.url}/api/2.1/jobs/create",
            data="[1",
            headers={"Authorization": f"Bearer {server.token}"},
            timeout=9,
        )
        assert (answer.status_code, answer.json()["error_code"]) == (400, "MALFORMED_REQUEST")

    @pytest.mark.parametrize(
        "tasks",
        [
            [{"task_key": "a"}, {"task_key": "a"}],
            [{"task_key": "a", "depends_on": [{"task_key": "none"}]}],
            [
                {"task_key": "a", "depends_on": [{"task_key": "b"}]},
                {"task_key": "b", "depends_on": [{"task_key": "a"}]},
            ],
            [{"task_key": "a", "job_cluster_key": "none"}],
        ],
        ids=["twice", "dangling", "circle", "cluster"],
    )
    def test_a_job_that_could_not_run_is_refused(self, server: Server, tasks: list[dict[str, Any]]) -> None:
        full = [{"python_wheel_task": {"package_name": "tiny", "entry_point": "ok"}, **task} for task in tasks]
        before = server.jobs("prod")
        answer = server.call("prod", "POST", "/api/2.1/jobs/create", name="broken", tasks=full)
        assert answer.status_code == 400
        assert server.jobs("prod") == before


class TestSecurity:
    @pytest.mark.parametrize(
        "path",
        ["/api/2.1/jobs/list", "/api/2.0/mlflow/experiments/search", "/ajax-api/2.0/mlflow/experiments/search",
         "/dbfs/libs", "/dev/jobs", "/mlflow/", "/graphql", "/api/2.0/mlflow/databricks/registered-models/get"],
    )  # fmt: skip
    @pytest.mark.parametrize("token", ["", "wrong", "dapi" + "0" * 32])
    def test_without_the_token_nothing_is_open(self, server: Server, path: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.get(f"{server.url}{path}", headers=headers, timeout=9, allow_redirects=False)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")

    def test_health_is_open_and_a_foreign_host_name_is_not_served(self, server: Server) -> None:
        assert requests.get(f"{server.url}/health", timeout=9).text == "OK"
        headers = {"Host": "evil.example", "Authorization": f"Bearer {server.token}"}
        assert requests.get(f"{server.url}/api/2.1/jobs/list", headers=headers, timeout=9).status_code == 404

    def test_only_this_machine_is_listened_to_and_only_the_owner_reads_the_token(self, server: Server) -> None:
        assert (server.root / "token").stat().st_mode & 0o077 == 0
        port = int(server.url.rpartition(":")[2])
        listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        addresses = [address for address in listening if address.endswith(f":{port:04X}")]
        assert all(address.startswith("0100007F") for address in addresses)
        assert addresses

    def test_pages_open_with_the_token_as_a_cookie(self, server: Server) -> None:
        browser = requests.Session()
        html = {"Accept": "text/html"}
        assert browser.get(f"{server.url}/dev/jobs", headers=html, timeout=9).url.endswith("/login")
        wrong = browser.post(f"{server.url}/login", data={"token": "no"}, timeout=9)
        assert wrong.status_code == 403
        browser.post(f"{server.url}/login", data={"token": server.token}, timeout=9)
        job = server.tiny_job("dev", {"task_key": "first"}, {"task_key": "<b>"}, job_name="<script>x</script>")
        run = server.wait("dev", server.run("dev", job))
        assert run["run_page_url"] == f"{server.url}/dev/runs/{run['run_id']}"
        page = browser.get(run["run_page_url"], headers=html, timeout=9)
        assert page.status_code == 200
        for expected in ("&lt;script&gt;x&lt;/script&gt;", "first", "SUCCESS", "arguments:", "<svg", "/mlflow/"):
            assert expected in page.text
        assert "<script>x" not in page.text
        assert "&lt;script&gt;" in browser.get(f"{server.url}/dev/jobs", headers=html, timeout=9).text
        assert "MLflow" in browser.get(f"{server.url}/mlflow/", headers=html, timeout=9).text


class TestPermissions:
    def test_they_are_stored_merged_and_checked(self, server: Server) -> None:
        job = server.tiny_job("prod", {"task_key": "t"}, job_name="guarded")
        path = f"/api/2.0/permissions/jobs/{job}"
        owner = {"service_principal_name": PRINCIPAL, "permission_level": "IS_OWNER"}
        users = {"group_name": "users", "permission_level": "CAN_VIEW"}
        assert server.call("prod", "PUT", path, access_control_list=[owner]).status_code == 200
        assert server.call("prod", "PATCH", path, access_control_list=[users]).status_code == 200
        found = server.call("prod", "GET", path).json()["access_control_list"]
        assert [entry["all_permissions"][0]["permission_level"] for entry in found] == ["IS_OWNER", "CAN_VIEW"]
        for wrong in (
            [users],
            [owner, {"group_name": "x", "permission_level": "CAN_FLY"}],
            [owner, {"permission_level": "CAN_VIEW"}],
        ):
            assert server.call("prod", "PUT", path, access_control_list=wrong).status_code == 400
        assert server.call("prod", "GET", path).json()["access_control_list"] == found


def test_three_workspaces_on_one_port_know_nothing_of_each_others_jobs(server: Server) -> None:
    server.tiny_job("staging", {"task_key": "t"}, job_name="only in staging")
    assert "only in staging" in server.jobs("staging")
    assert "only in staging" not in server.jobs("dev")


def test_a_killed_server_comes_back_with_its_runs_ended_and_nothing_left_running(tmp_path: Path) -> None:
    server = Server(tmp_path / "root")
    server.root.mkdir()
    server.start()
    job = server.tiny_job(
        "dev", {"task_key": "t", "does": "sleep"}, {"task_key": "u", "depends_on": [{"task_key": "t"}]}
    )
    run_id = server.run("dev", job)
    run = server.until("dev", run_id, lambda r: "child" in server.log("dev", r["tasks"][0]["run_id"]))
    child = int(server.log("dev", run["tasks"][0]["run_id"]).split()[1])
    server.stop(9)
    assert alive(child)
    server.start()
    try:
        after = server.wait("dev", run_id)
        assert after["state"]["life_cycle_state"] == "INTERNAL_ERROR"
        assert {task["state"]["life_cycle_state"] for task in after["tasks"]} == {"INTERNAL_ERROR"}
        assert not alive(child)
        assert server.jobs("dev") == {"tiny": job}
        nightly = {"quartz_cron_expression": "0 0 1 * * ?", "timezone_id": "UTC", "pause_status": "UNPAUSED"}
        ok = server.tiny_job("dev", {"task_key": "t"}, job_name="again", schedule=nightly)
        assert results(server.wait("dev", server.run("dev", ok))) == {"t": "SUCCESS"}
        taken = subprocess.run(
            [sys.executable, "-m", "local_workspace", "--root", str(server.root), "put", __file__, "dev:/Volumes/x"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert taken.returncode == 1
        assert "another local_workspace is using" in taken.stderr
    finally:
        server.stop()
    fired = subprocess.run(
        [sys.executable, "-m", "local_workspace", "--root", str(server.root), "fire", "dev"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert fired.returncode == 0, fired.stderr
    assert re.fullmatch(r"again: run \d+: SUCCESS\n", fired.stdout)


def test_the_current_databricks_sdk_reads_jobs_runs_outputs_and_permissions(server: Server, tmp_path: Path) -> None:
    job = server.tiny_job(
        "prod", {"task_key": "t"}, job_name="for the sdk",
        access_control_list=[{"user_name": "developer@workspace.test", "permission_level": "IS_OWNER"}],
    )  # fmt: skip
    run_id = server.run("prod", job)
    server.wait("prod", run_id)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "sdk")], check=True)
    python = tmp_path / "sdk" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "databricks-sdk"], check=True)
    program = f"""
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import ResourceDoesNotExist
w = WorkspaceClient()
assert "for the sdk" in [job.settings.name for job in w.jobs.list()]
assert w.jobs.get({job}).settings.tasks[0].python_wheel_task.entry_point == "ok"
run = w.jobs.get_run({run_id})
assert run.state.result_state.value == "SUCCESS", run.state
assert "arguments:" in w.jobs.get_run_output(run.tasks[0].run_id).logs
assert [r.run_id for r in w.jobs.list_runs(job_id={job})] == [{run_id}]
(entry,) = w.permissions.get("jobs", "{job}").access_control_list
assert entry.user_name == "developer@workspace.test" and entry.all_permissions[0].permission_level.value == "IS_OWNER"
assert "booking-mlops-prod" in [p.display_name for p in w.service_principals.list()]
assert [c.cluster_name for c in w.clusters.list()] == ["booking-mlops"]
try: w.jobs.get_run(10**9)
except ResourceDoesNotExist: print("all of it")
"""
    done = subprocess.run(
        [str(python), "-c", program], env=server.environment("prod"), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "all of it", done.stderr
