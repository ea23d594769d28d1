"""DBFS root: refused as new workspaces and runtimes refuse it, and what `--dbfs-root` brings back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import DBX, Server, running_server

DISABLED = "Public DBFS root is disabled. Access is denied on path: "
DEPLOYMENT = """
environments:
  dev:
    workflows:
      - name: dev-old
        tasks:
          - task_key: only
            new_cluster: {spark_version: 18.x-cpu-ml-scala2.13, num_workers: 1}
            libraries: [{whl: "file://tiny-0.1-py3-none-any.whl"}]
            python_wheel_task: {package_name: tiny, entry_point: ok}
"""


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A workspace that still has a DBFS root."""
    with running_server(tmp_path_factory.mktemp("older"), "--dbfs-root") as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/2.0/dbfs/put", {"path": "/FileStore/x", "contents": ""}),
        ("POST", "/api/2.0/dbfs/create", {"path": "dbfs:/FileStore/x"}),
        ("GET", "/api/2.0/dbfs/list?path=/FileStore/x", {}),
        ("POST", "/dbfs/FileStore/x", {"a": 1}),
        ("POST", "/api/2.0/mlflow/experiments/create", {"name": "e", "artifact_location": "dbfs:/FileStore/x"}),
    ],
)
def test_nothing_is_on_dbfs_root(server: Server, method: str, path: str, body: dict[str, Any]) -> None:
    answer = server.call("dev", method, path, **body)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert answer.json()["message"].startswith(DISABLED)
    assert answer.json()["message"].endswith("/FileStore/x")


@pytest.mark.parametrize("path", ["dbfs/list?path=/Volumes/dev/default", "dbfs/get-status?path=dbfs:/Volumes/dev"])
def test_the_dbfs_api_reaches_no_volume(server: Server, older: Server, path: str) -> None:
    for one in (server, older):
        answer = one.call("dev", "GET", f"/api/2.0/{path}")
        assert (answer.status_code, answer.json()["message"]) == (403, "No operations allowed on this path")


def test_an_experiment_may_be_in_a_volume(server: Server) -> None:
    body = {"name": "in a volume", "artifact_location": "dbfs:/Volumes/dev/default/libs/artifacts"}
    made = server.call("dev", "POST", "/api/2.0/mlflow/experiments/create", **body)
    assert made.status_code == 200, made.text
    assert server.call("dev", "POST", "/api/2.0/mlflow/experiments/create", name="anywhere").status_code == 200


ALLOWED = {"spark_conf": {"spark.databricks.driver.dbfsLibraryInstallationAllowed": "true"}}
ON_18 = {"spark_version": "18.x-cpu-ml-scala2.13"}
MISSING = "library dbfs:/libs/tiny.whl is not there"
NOT_SUPPORTED = "DBFS library installations are not supported on DBR 15 or above."


@pytest.mark.parametrize(
    ("has_root", "whl", "cluster", "message"),
    [
        (False, "dbfs:/libs/tiny.whl", {"spark_version": "15.4.x-scala2.12"}, NOT_SUPPORTED),
        (False, "dbfs:/libs/tiny.whl", {**ON_18, **ALLOWED}, f"{DISABLED}dbfs:/libs/tiny.whl"),
        (False, "dbfs:/libs/tiny.whl", {"spark_version": "14.3.x-scala2.12"}, f"{DISABLED}dbfs:/libs/tiny.whl"),
        (True, "dbfs:/libs/tiny.whl", ON_18, NOT_SUPPORTED),
        (True, "dbfs:/libs/tiny.whl", {**ON_18, **ALLOWED}, MISSING),
        (True, "dbfs:/libs/tiny.whl", {"spark_version": "14.3.x-scala2.12"}, MISSING),
        (False, "dbfs:/Volumes/dev/default/libs/tiny-0.1-py3-none-any.whl", ON_18, None),
    ],
    ids=["15.4", "18 with the setting", "14.3", "18, root", "18 with the setting, root", "14.3, root", "volume"],
)
def test_runtimes_from_15_on_install_libraries_from_volumes(
    server: Server, older: Server, has_root: bool, whl: str, cluster: dict[str, Any], message: str | None
) -> None:
    one = older if has_root else server
    one.tiny_job("dev", {"task_key": "t"}, job_name="brings the wheel")
    shared = {"job_cluster_key": "shared", "new_cluster": None, "libraries": [{"whl": whl}]}
    clusters = [{"job_cluster_key": "shared", "new_cluster": cluster}]
    job = one.tiny_job("dev", {"task_key": "t", **shared}, job_name=str(cluster) + whl, job_clusters=clusters)
    (task,) = one.wait("dev", one.run("dev", job))["tasks"]
    if message is None:
        assert task["state"]["result_state"] == "SUCCESS", one.log("dev", task["run_id"])
    else:
        assert task["state"]["result_state"] == "FAILED"
        assert message in task["state"]["state_message"]


def test_a_project_whose_artifacts_are_on_dbfs_root_is_refused_in_databricks_words(
    server: Server, older: Server, tmp_path: Path
) -> None:
    """As this project was deployed up to now."""
    properties = {"workspace_directory": "/Shared/dbx/old", "artifact_location": "dbfs:/Shared/dbx/projects/old"}
    environment = {"profile": "x", "storage_type": "mlflow", "properties": properties}
    (tmp_path / ".dbx").mkdir()
    (tmp_path / ".dbx" / "project.json").write_text(json.dumps({"environments": {"dev": environment}}))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "deployment.yml").write_text(DEPLOYMENT)
    shutil.copy(server.tiny_wheel(), tmp_path)
    deploy = ("deploy", "--environment", "dev", "--no-package")
    refused = server.dbx(*deploy, cwd=tmp_path)
    assert refused.returncode != 0
    assert "Public DBFS root is disabled" in " ".join((refused.stdout + refused.stderr).split())
    deployed = older.dbx(*deploy, cwd=tmp_path)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    launched = older.dbx("launch", "dev-old", "--environment", "dev", "--trace", cwd=tmp_path)
    assert launched.returncode != 0
    runs = older.api("dev", "GET", "jobs/runs/list", job_id=older.jobs("dev")["dev-old"])["runs"]
    (task,) = older.api("dev", "GET", f"jobs/runs/get?run_id={runs[0]['run_id']}")["tasks"]
    assert "Error Code: DRIVER_LIBRARY_INSTALLATION_FAILURE." in task["state"]["state_message"]
    assert NOT_SUPPORTED in task["state"]["state_message"]


class TestOlder:
    """What a workspace with a DBFS root does with it."""

    def test_the_old_databricks_cli_copies_lists_moves_and_removes(self, older: Server, tmp_path: Path) -> None:
        source, back = tmp_path / "a.bin", tmp_path / "b.bin"
        source.write_bytes(os.urandom(2_500_000))  # more than one block

        def cli(*arguments: str) -> str:
            done = subprocess.run(
                [str(DBX.with_name("databricks")), "fs", *arguments], env=older.environment("prod"),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        cli("cp", str(source), "dbfs:/files/a.bin")
        cli("mv", "dbfs:/files/a.bin", "dbfs:/files/c.bin")
        assert "c.bin" in cli("ls", "dbfs:/files")
        cli("cp", "dbfs:/files/c.bin", str(back))
        assert back.read_bytes() == source.read_bytes()
        cli("rm", "-r", "dbfs:/files")
        assert older.call("prod", "GET", "/api/2.0/dbfs/get-status?path=/files").status_code == 404

    @pytest.mark.parametrize(
        ("path", "status", "code", "message"),
        [
            ("get-status?path=/none", 404, "RESOURCE_DOES_NOT_EXIST", "No file"),
            ("get-status?path=none", 400, "INVALID_PARAMETER_VALUE", "absolute"),
            ("read?path=/../../token", 400, "INVALID_PARAMETER_VALUE", "within the root"),
        ],
    )
    def test_errors_are_databricks(self, older: Server, path: str, status: int, code: str, message: str) -> None:
        answer = older.call("dev", "GET", f"/api/2.0/dbfs/{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (status, code)
        assert message in answer.json()["message"]

    def test_a_link_leads_nowhere_outside(self, older: Server) -> None:
        root = older.root / "workspaces" / "dev" / "dbfs"
        root.mkdir(parents=True, exist_ok=True)
        (root / "link").symlink_to(older.root)
        assert older.call("dev", "GET", "/dbfs/link/token").status_code == 400
