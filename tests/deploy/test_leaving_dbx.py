"""The switch of an environment from dbx to a bundle and back, as docs/deployment.md has it.

The current Databricks CLI is in no package index. What it does on a workspace for `bundle deployment bind` and `bundle
deploy` is done here with the SDK and the REST API: it fills in variables, uploads files, resets each bound job, and
sets its permissions.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.workspace import ImportFormat

from tests.conftest import ROOT, Cli, write_bookings
from tests.deploy.conftest import Server, running_server
from tests.deploy.test_workspace import PRINCIPAL, results

FILE = "/api/2.0/fs/files/Volumes/prod/booking/files/Booking.csv"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A workspace of this test's own: it brings bookings into prod."""
    with running_server(tmp_path_factory.mktemp("bundle")) as found:
        yield found


def resolved(target: dict[str, Any], root_path: str, client: WorkspaceClient) -> tuple[str, dict[str, Any]]:
    """Return the folder of a target's files and its jobs by key, with the variables it looks up filled in."""
    values = {"bundle.name": "booking_mlops", "bundle.target": "prod"}
    for name, variable in target["variables"].items():
        ((kind, of),) = variable["lookup"].items()
        assert kind == "service_principal"
        (found,) = client.service_principals.list(filter=f'displayName eq "{of}"')
        values[f"var.{name}"] = str(found.application_id)

    def fill(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: values[match[1]], text)

    values["workspace.file_path"] = f"{fill(root_path)}/files"
    return values["workspace.file_path"], json.loads(fill(json.dumps(target["resources"]["jobs"])))


def upload(client: WorkspaceClient, folder: str) -> str:
    """Put the files that the bundle synchronizes, and dbx's newest wheel, into a folder; return the wheel's path."""
    wheel = max((ROOT / "dist").glob("*.whl"), key=lambda file: file.stat().st_mtime)
    files = {f"{folder}/{file.relative_to(ROOT)}": file for file in (ROOT / "conf").rglob("*.yml")}
    files[f"{folder}/{wheel.name}"] = wheel
    for path, file in files.items():
        client.workspace.mkdirs(path.rpartition("/")[0])
        client.workspace.upload(path, io.BytesIO(file.read_bytes()), format=ImportFormat.RAW, overwrite=True)
    return f"{folder}/{wheel.name}"


def test_a_bundle_takes_over_dbxs_jobs_and_dbx_takes_them_back(
    server: Server,
    client: Callable[..., WorkspaceClient],
    booking_mlops: Cli,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in server.environment("prod").items():
        monkeypatch.setenv(name, value)
    assert booking_mlops("deployment", "prepare", "--env", "prod").code == 0
    assert server.dbx("deploy", "--environment", "prod").returncode == 0
    before = server.jobs("prod")
    write_bookings(tmp_path / "Booking.csv", 500)
    assert server.upload("prod", "PUT", FILE, tmp_path / "Booking.csv") == 204

    assert booking_mlops("deployment", "to-bundle", "--out", tmp_path).code == 0
    root = yaml.safe_load((tmp_path / "databricks.yml").read_text(encoding="utf-8"))["targets"]["prod"]
    target = yaml.safe_load((tmp_path / "resources" / "prod.yml").read_text(encoding="utf-8"))["targets"]["prod"]
    folder, jobs = resolved(target, root["workspace"]["root_path"], client("prod"))
    assert folder == f"/Workspace/Users/{PRINCIPAL}/.bundle/booking_mlops/prod/files"
    wheel = upload(client("prod"), folder)
    # The guide's command makes the keys from the names.
    bound = {re.sub(r"\W", "_", name): job for name, job in before.items()}
    assert set(bound) == set(jobs)
    for key, job in jobs.items():
        permissions = [{"permission_level": one.pop("level"), **one} for one in job.pop("permissions")]
        for task in job["tasks"]:
            assert task["libraries"] == [{"whl": "../dist/bundle/*.whl"}]
            task["libraries"] = [{"whl": wheel}]
        server.api("prod", "POST", "jobs/reset", job_id=bound[key], new_settings=job)
        path = f"/api/2.0/permissions/jobs/{bound[key]}"
        assert server.call("prod", "PUT", path, access_control_list=permissions).status_code == 200

    assert server.jobs("prod") == before
    run = server.wait("prod", server.run("prod", before["prod-setup-data"]))
    log = server.log("prod", run["tasks"][0]["run_id"])
    assert results(run) == {"setup-data": "SUCCESS"}, log
    assert run["run_as_user_name"] == PRINCIPAL
    assert "500 rows" in log

    assert server.dbx("deploy", "--environment", "prod").returncode == 0
    assert server.jobs("prod") == before
    (task,) = server.api("prod", "GET", f"jobs/get?job_id={before['prod-setup-data']}")["settings"]["tasks"]
    assert task["libraries"][0]["whl"].startswith("dbfs:/Volumes/prod/deployments/booking_mlops/dbx/")
