"""The unmodified dbx 0.8.19, as a subprocess, through the project's own deployment.yml."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import deltalake
import pytest

from devtools.deployment_file import read_deployment
from tests.conftest import ROOT, Cli
from tests.deploy.conftest import DBX, Server
from tests.deploy.test_workspace import results

# dbx has an environment of its own.
DBX_PYTHON = ROOT / ".venv-dbx" / "bin" / "python"
JOBS = {
    "setup-data",
    "feature-table-creation",
    "model-train",
    "model-inference-batch",
    "outlook",
    "model-monitor",
    "model-rollback",
    "model-approve",
    "booking-pipeline",
}


@pytest.fixture(scope="module")
def deployed(server: Server) -> dict[str, dict[str, int]]:
    """Every environment, deployed once."""
    for name in ("dev", "staging", "prod"):
        server.prepare(name)
        done = server.dbx("deploy", "--environment", name)
        assert done.returncode == 0, done.stdout + done.stderr
    return {name: server.jobs(name) for name in ("dev", "staging", "prod")}


def settings_of(server: Server, name: str, job_id: int) -> dict[str, Any]:
    found: dict[str, Any] = server.api(name, "GET", f"jobs/get?job_id={job_id}")["settings"]
    return found


def test_all_environments_are_deployed_with_what_the_file_says(
    server: Server, deployed: dict[str, dict[str, int]]
) -> None:
    for name, jobs in deployed.items():
        assert {f"{name}-{job}" for job in JOBS} <= set(jobs)
    assert "staging-integration-test" in deployed["staging"]
    train = settings_of(server, "prod", deployed["prod"]["prod-model-train"])
    assert train["schedule"]["pause_status"] == "UNPAUSED"
    # dbx 0.8.19 writes the name it resolved a second time beside the first, which Databricks ignores.
    assert train["run_as"]["service_principal_name"] == "00000000-0000-0000-0000-000000000003"
    assert train["email_notifications"]["on_failure"]
    (task,) = train["tasks"]
    assert task["max_retries"] == 2
    assert task["job_cluster_key"] == "booking-mlops"
    assert train["job_clusters"][0]["new_cluster"]["data_security_mode"] == "SINGLE_USER"
    volume = "/Volumes/prod/deployments/booking_mlops/dbx/"
    assert all(value.startswith(("--", f"/dbfs{volume}")) for value in task["python_wheel_task"]["parameters"])
    (library,) = task["libraries"]
    assert library["whl"].startswith(f"dbfs:{volume}")
    acl = server.call("prod", "GET", f"/api/2.0/permissions/jobs/{deployed['prod']['prod-model-train']}").json()
    levels = [entry["all_permissions"][0]["permission_level"] for entry in acl["access_control_list"]]
    assert levels == ["IS_OWNER", "CAN_MANAGE_RUN", "CAN_VIEW"]
    for name in ("dev", "staging"):
        for job_id in deployed[name].values():
            assert "schedule" not in settings_of(server, name, job_id)


def test_a_second_deploy_updates_and_duplicates_nothing(server: Server, deployed: dict[str, dict[str, int]]) -> None:
    before = {name: job for name, job in server.jobs("prod").items() if name in deployed["prod"]}
    done = server.dbx("deploy", "prod-model-train", "--environment", "prod")
    assert done.returncode == 0, done.stdout
    assert "Updating existing workflow" in done.stdout
    assert {name: job for name, job in server.jobs("prod").items() if name in deployed["prod"]} == before


def test_the_plan_names_what_a_deploy_would_change(
    server: Server, deployed: dict[str, dict[str, int]], booking_mlops: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment("prod").items():
        monkeypatch.setenv(name, value)
    same = booking_mlops("deployment", "plan", "--env", "prod")
    assert same.code == 0, same.err
    assert [line.partition(": ")[2] for line in same.out.splitlines()[1:]] == ["stays as it is"] * len(JOBS)
    job = {"job_id": deployed["prod"]["prod-model-train"]}
    server.api("prod", "POST", "jobs/update", **job, new_settings={"timeout_seconds": 5})
    changed = booking_mlops("deployment", "plan", "--env", "prod").out
    assert "~ prod-model-train: would change\n    timeout_seconds: 5 → 14400\n" in changed
    assert changed.count("stays as it is") == len(JOBS) - 1
    server.api("prod", "POST", "jobs/update", **job, new_settings={"timeout_seconds": 14400})


def test_the_wrong_token_is_refused_and_changes_nothing(server: Server, deployed: dict[str, dict[str, int]]) -> None:
    before = server.jobs("prod")
    files = sorted((server.root / "workspaces").rglob("*.whl"))
    done = server.dbx("deploy", "--environment", "prod", token="dapi" + "f" * 32)
    assert done.returncode != 0
    assert "403" in done.stdout + done.stderr
    assert server.jobs("prod") == before
    assert sorted((server.root / "workspaces").rglob("*.whl")) == files


def test_prod_without_its_file_fails_where_it_should(server: Server, deployed: dict[str, dict[str, int]]) -> None:
    done = server.dbx(
        "launch", "prod-booking-pipeline", "--environment", "prod", "--trace", "--include-output", "stderr"
    )
    assert done.returncode != 0
    assert "no such file; put Booking.csv there" in done.stdout.replace("\n", " ")
    runs = server.api("prod", "GET", f"jobs/runs/list?job_id={deployed['prod']['prod-booking-pipeline']}")
    run = server.api("prod", "GET", f"jobs/runs/get?run_id={runs['runs'][0]['run_id']}")
    assert results(run) == {
        "setup-data": "FAILED",
        "feature-table-creation": "UPSTREAM_FAILED",
        "model-train": "UPSTREAM_FAILED",
        "model-inference-batch": "UPSTREAM_FAILED",
        "outlook": "UPSTREAM_FAILED",
    }
    assert run["tasks"][0]["attempt_number"] == 2
    assert not list((server.root / "workspaces" / "prod" / "lake").rglob("*.parquet"))


def test_the_existing_cluster_is_one_line_away(
    server: Server, deployed: dict[str, dict[str, int]], tmp_path: Path
) -> None:
    text = (ROOT / "deployment.yml").read_text(encoding="utf-8")
    chosen = '{% set compute = "dedicated" %}'
    assert text.count(chosen) == 1
    text = text.replace(chosen, chosen.replace("dedicated", "existing"))
    (tmp_path / "deployment.yml").write_text(text, encoding="utf-8")
    done = server.dbx(
        "deploy", "dev-setup-data", "--environment", "dev", "--deployment-file", str(tmp_path / "deployment.yml")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (task,) = settings_of(server, "dev", deployed["dev"]["dev-setup-data"])["tasks"]
    assert task["existing_cluster_id"] == "1123-000000-dev"
    assert "job_cluster_key" not in task


def test_assets_are_launched_without_a_job(server: Server, deployed: dict[str, dict[str, int]]) -> None:
    assert server.dbx("deploy", "dev-setup-data", "--environment", "dev", "--assets-only").returncode == 0
    before = server.jobs("dev")
    conf = ["--conf-file", str(ROOT / "conf/tasks/setup_data.yml"), "--env-file", str(ROOT / "conf/envs/dev.yml")]
    parameters = [{"task_key": "setup-data", "parameters": [*conf, "--set", "made_rows=500"]}]
    done = server.dbx(
        "launch", "dev-setup-data", "--environment", "dev", "--from-assets", "--trace", "--include-output", "stdout",
        "--parameters", json.dumps(parameters),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "500 read" in done.stdout
    assert server.jobs("dev") == before


def test_a_run_that_is_under_way_can_be_cancelled_for_another_or_by_an_interruption(server: Server) -> None:
    job = server.tiny_job("dev", {"task_key": "t", "does": "sleep"}, job_name="endless", max_concurrent_runs=5)
    first = server.run("dev", job)
    launch = subprocess.Popen(
        [str(DBX), "launch", "endless", "--environment", "dev", "--existing-runs", "cancel", "--trace",
         "--kill-on-sigterm"],
        cwd=ROOT, env=server.environment("dev"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # A program started in a shell's background ignores interruptions, and so would dbx.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert server.wait("dev", first)["state"]["result_state"] == "CANCELED"
    deadline = time.monotonic() + 60
    while len(runs := server.api("dev", "GET", f"jobs/runs/list?job_id={job}")["runs"]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    server.until("dev", runs[0]["run_id"], lambda run: run["state"]["life_cycle_state"] == "RUNNING")
    time.sleep(2)
    launch.send_signal(signal.SIGINT)
    launch.communicate(timeout=60)
    assert server.wait("dev", runs[0]["run_id"])["state"]["result_state"] == "CANCELED"


def test_execute_runs_a_task_from_the_working_tree(server: Server, tmp_path: Path) -> None:
    done = server.dbx(
        "execute", "dev-setup-data", "--environment", "dev", "--cluster-name", "booking-mlops",
        "--parameters", json.dumps({"parameters": ["--help"]}),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage: " in done.stdout
    assert "--conf-file" in done.stdout


def test_parameters_reach_the_task_and_output_with_brackets_does_not_break_dbx(server: Server) -> None:
    server.tiny_job("dev", {"task_key": "t"}, job_name="brackets")
    parameters = json.dumps({"python_params": ["--given", "here"]})
    done = server.dbx(
        "launch",
        "brackets",
        "--environment",
        "dev",
        "--trace",
        "--include-output",
        "stdout",
        "--parameters",
        parameters,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "['--given', 'here'] [/x]" in done.stdout


def test_destroy_removes_jobs_and_assets(server: Server, deployed: dict[str, dict[str, int]]) -> None:
    done = server.dbx("destroy", "--environment", "dev", "--confirm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(name.startswith("dev-") for name in deployed["dev"])
    assert not any(name.startswith("dev-") for name in server.jobs("dev"))
    assert server.dbx("launch", "dev-setup-data", "--environment", "dev").returncode != 0


def test_exec_starts_runs_and_stops_with_the_commands_exit_code(tmp_path: Path) -> None:
    import sys

    command = [sys.executable, "-m", "local_workspace", "--root", str(tmp_path / "w"), "exec"]
    ask = (
        "import os, urllib.request as u; r = u.Request(os.environ['DATABRICKS_HOST'] + '/api/2.1/jobs/list', "
        "headers={'Authorization': 'Bearer ' + os.environ['DATABRICKS_TOKEN']}); print(u.urlopen(r).read()); exit(7)"
    )
    done = subprocess.run(
        [*command, "--", sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert "has_more" in done.stdout
    missing = subprocess.run([*command, "--", "no-such-program"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "no such program" in missing.stderr


def test_a_server_killed_while_a_table_is_written_leaves_whole_tables_and_the_next_run_succeeds(tmp_path: Path) -> None:
    server = Server(tmp_path / "root")
    server.root.mkdir()
    server.start()
    server.prepare("dev")
    assert server.dbx("deploy", "dev-setup-data", "--environment", "dev").returncode == 0
    job = server.jobs("dev")["dev-setup-data"]
    run_id = server.run("dev", job)
    server.until("dev", run_id, lambda run: "writing" in server.log("dev", run["tasks"][0]["run_id"]), 120)
    server.stop(9)
    server.start()
    try:
        killed = server.wait("dev", run_id)
        assert killed["state"]["life_cycle_state"] == "INTERNAL_ERROR"
        again = server.wait("dev", server.run("dev", job))
        assert again["state"]["result_state"] == "SUCCESS", server.log("dev", again["tasks"][0]["run_id"])
        database = server.root / "workspaces" / "dev" / "lake" / "warehouse" / "dev__booking.db"
        rows = {
            name: deltalake.DeltaTable(database / name).to_pyarrow_table().num_rows
            for name in ("bookings", "bookings_rejected")
        }
        assert sum(rows.values()) == 20_000
    finally:
        server.stop()


READ_AS_DBX_DOES = """
import json, sys, yaml
from pathlib import Path
from dbx.api.config_reader import ConfigReader, Jinja2ConfigReader
from dbx.models.deployment import DeploymentConfig
given = []
read = DeploymentConfig.from_payload
DeploymentConfig.from_payload = lambda payload: given.append(json.dumps(payload)) or read(payload)
reader = ConfigReader(Path("conf/deployment.yml"))
assert type(reader._reader) is Jinja2ConfigReader
Path(sys.argv[1]).write_text(given[0])
"""


def test_dbx_reads_the_tree_that_the_checks_read(tmp_path: Path) -> None:
    out = tmp_path / "read.json"
    command = [str(DBX_PYTHON), "-W", "ignore", "-c", READ_AS_DBX_DOES, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(out.read_text(encoding="utf-8")) == read_deployment(ROOT / "deployment.yml")
