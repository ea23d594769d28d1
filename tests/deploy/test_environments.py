"""The names of the environments come from the project's `.dbx/project.json`, which dbx reads too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Prints what a client finds in the workspace that `exec` has chosen.
LOOK = """
import json, os, urllib.request
def get(path):
    headers = {"Authorization": "Bearer " + os.environ["DATABRICKS_TOKEN"]}
    request = urllib.request.Request(os.environ["DATABRICKS_HOST"] + path, headers=headers)
    return urllib.request.urlopen(request).read().decode()
(principal,) = json.loads(get("/api/2.0/preview/scim/v2/ServicePrincipals"))["Resources"]
(cluster,) = json.loads(get("/api/2.0/clusters/list"))["clusters"]
home, name = get("/"), os.environ["DATABRICKS_HOST"].removeprefix("http://").partition(".")[0]
print(json.dumps([principal["applicationId"][-2:], principal["displayName"], cluster["cluster_id"],
                  f"Jobs of {name}" in get(f"/{name}/jobs"), "'/dev/jobs'" in home]))
"""

DEPLOYMENT = """
environments:
  QA_2:
    workflows:
      - name: version
        schedule: {quartz_cron_expression: "0 0 1 * * ?", timezone_id: UTC, pause_status: UNPAUSED}
        tasks:
          - task_key: only
            new_cluster: {spark_version: 15.4.x-scala2.12, num_workers: 0}
            python_wheel_task: {package_name: pip, entry_point: pip, parameters: [--version]}
"""


class Project:
    """A dbx project and the workspaces of its environments."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".dbx").mkdir()

    def write(self, *environments: str) -> None:
        described = {
            name: {
                "profile": name,
                "storage_type": "mlflow",
                "properties": {"workspace_directory": f"/Shared/{name}", "artifact_location": f"dbfs:/dbx/{name}"},
            }
            for name in environments
        }
        text = json.dumps({"environments": described, "inplace_jinja_support": False})
        (self.folder / ".dbx" / "project.json").write_text(text, encoding="utf-8")

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("DATABRICKS_", "MLFLOW_"))}
        return subprocess.run(
            [sys.executable, "-m", "local_workspace", *arguments],
            cwd=self.folder, env={**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def look(self, environment: str) -> list[object]:
        done = self.call("exec", "--env", environment, "--", sys.executable, "-c", LOOK)
        assert done.returncode == 0, done.stderr
        found: list[object] = json.loads(done.stdout)
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_an_environment_added_to_the_project_works_in_workspaces_that_exist(project: Project) -> None:
    project.write("dev", "prod")
    assert project.look("prod") == ["02", "booking-mlops-prod", "1123-000000-prod", True, True]
    refused = project.call("put", __file__, "QA_2:/x")
    assert (refused.returncode, refused.stderr) == (1, "error: QA_2:/x: expected ENV:/path with ENV one of dev, prod\n")
    project.write("dev", "QA_2", "prod")
    # Its position is taken by prod, whose principal keeps its id.
    assert project.look("QA_2") == ["03", "booking-mlops-QA_2", "1123-000000-QA_2", True, True]
    assert project.look("prod")[:2] == ["02", "booking-mlops-prod"]
    refused = project.call("put", __file__, "QA_2:/x")
    assert (refused.returncode, refused.stderr.partition(";")[0]) == (
        1, "error: /x: there is no DBFS root without --dbfs-root",
    )  # fmt: skip
    assert project.call("--dbfs-root", "put", __file__, "QA_2:/x").stdout == f"{__file__} is dbfs:/x in QA_2\n"
    (project.folder / "conf").mkdir()
    (project.folder / "conf" / "deployment.yml").write_text(DEPLOYMENT, encoding="utf-8")
    deployed = project.call("--dbfs-root", "exec", "--", "dbx", "deploy", "--environment", "QA_2", "--no-package")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    fired = project.call("fire", "QA_2")
    assert (fired.returncode, fired.stdout.rpartition(": ")[2]) == (0, "SUCCESS\n"), fired.stdout + fired.stderr
    elsewhere = project.call("--project", str(ROOT), "fire", "QA_2")
    assert elsewhere.returncode == 2
    assert "invalid choice: 'QA_2' (choose from 'dev', 'staging', 'prod')" in elsewhere.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "project.json: no such file; start this in a dbx project, or name its folder with --project"),
        ("{", "project.json is not valid JSON"),
        ("{}", "project.json has no environments"),
        ('{"environments": {}}', "project.json has no environments"),
        ('{"environments": {"a/b": {}}}', "'a/b' can't be part of a host name"),
        ('{"environments": {"qa": {}, "QA": {}}}', "two environments are named QA"),
    ],
    ids=["missing", "no JSON", "no object of environments", "empty", "not a host name", "the same host name"],
)
def test_a_project_without_usable_environments_is_a_one_line_error(
    project: Project, content: str | None, message: str
) -> None:
    if content is not None:
        (project.folder / ".dbx" / "project.json").write_text(content, encoding="utf-8")
    for command in (["serve"], ["fire", "dev"]):
        done = project.call(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (project.folder / ".workspace").exists()
