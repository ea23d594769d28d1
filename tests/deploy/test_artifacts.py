"""The tracking URI `databricks`: artifacts of runs and models, and the workspace registry, for MLflow 3 and 2."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.deploy.conftest import IN_AN_ENVIRONMENT_OF_ITS_OWN, MLFLOW_2, MLFLOW_3, NEWEST, Server

# Without the Files API, MLflow 3 asks for presigned addresses, as MLflow 2 does.
PRESIGNED = {"MLFLOW_DISABLE_DATABRICKS_SDK_FOR_RUN_ARTIFACTS": "true"}
RUN = """
import json, pathlib, sys, tempfile, mlflow
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name(sys.argv[1])
experiment_id = experiment.experiment_id if experiment else client.create_experiment(sys.argv[1])
run_id = client.create_run(experiment_id).info.run_id
client.log_text(run_id, "hello", "greeting.txt")
client.log_text(run_id, "", "empty/a b.txt")
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "MLmodel").write_text("flavors: {python_function: {loader_module: none, env: {}}}")
client.log_artifacts(run_id, str(folder), "model")
address = client.get_run(run_id).info.artifact_uri
found = {"address": address, "is of the run": address.endswith(f"/{experiment_id}/{run_id}/artifacts"),
         "list": sorted(one.path for one in client.list_artifacts(run_id)),
         "inner": [(one.path, one.file_size) for one in client.list_artifacts(run_id, "empty")],
         "text": [mlflow.artifacts.load_text(f"{address}/{name}") for name in ("greeting.txt", "empty/a b.txt")]}
"""
REGISTER = """
name = sys.argv[1].strip("/")
mlflow.set_registry_uri("databricks")
client = mlflow.MlflowClient()
client.create_registered_model(name)
version = client.create_model_version(name, f"{address}/model", run_id).version
client.transition_model_version_stage(name, version, "Production")
found["source"] = client.get_model_version(name, version).source == f"{address}/model"
got = pathlib.Path(mlflow.artifacts.download_artifacts(f"models:/{name}/Production"))
found["registered"] = (got / "MLmodel").read_text()[:7]
"""


@pytest.mark.parametrize(
    ("python", "variables"),
    [
        pytest.param(MLFLOW_3, {}, id="3"),
        pytest.param(MLFLOW_3, PRESIGNED, id="presigned"),
        pytest.param(MLFLOW_2, {}, id="2"),
        pytest.param(NEWEST, {}, id="newest", marks=IN_AN_ENVIRONMENT_OF_ITS_OWN),
        pytest.param(NEWEST, PRESIGNED, id="newest-presigned", marks=IN_AN_ENVIRONMENT_OF_ITS_OWN),
    ],
)
def test_artifacts_go_up_and_come_down_and_the_workspace_registry_has_them(
    server: Server, request: pytest.FixtureRequest, python: str, variables: dict[str, str]
) -> None:
    own = {"MLFLOW_TRACKING_URI": "databricks", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", **variables}
    name = f"/artifacts {request.node.callspec.id}"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", RUN + REGISTER + "print(json.dumps(found))", name],
        env={**server.environment("staging"), **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("address").startswith("dbfs:/databricks/mlflow-tracking/")
    assert found == {
        "is of the run": True, "list": ["empty", "greeting.txt", "model"], "inner": [["empty/a b.txt", 0]],
        "text": ["hello", ""], "source": True, "registered": "flavors",
    }  # fmt: skip


def test_what_is_no_artifact_is_refused(server: Server) -> None:
    ask = "/api/2.0/mlflow/artifacts/credentials-for-read"
    missing = server.call("staging", "POST", ask, run_id="none", path=["a"])
    assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    for path in ("1/Runs/../../../../token", "1/Other/x/artifacts/y", "1"):
        address = f"/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/{path}"
        assert server.call("staging", "GET", address).status_code in (400, 404)
    listed = server.call("staging", "GET", "/api/2.0/mlflow/model-versions/list-artifacts?name=none&version=1")
    assert listed.status_code == 404
