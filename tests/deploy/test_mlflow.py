"""Each workspace has experiments, models and artifacts of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import requests

from tests.deploy.conftest import Server, running_server

LOG = """
import mlflow, sys
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment("/mine"))
client.log_text(run.info.run_id, "hello", "greeting.txt")
text = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/greeting.txt")
with mlflow.start_run(run.info.run_id):
    made = mlflow.pyfunc.log_model("model", python_model=lambda model_input: model_input, pip_requirements=[])
assert int(mlflow.register_model(made.model_uri, "mine").version) == 1
print(text, [experiment.name for experiment in client.search_experiments()])
"""


def log_from(server: Server, name: str) -> str:
    uri = f"{server.url}/{name}/mlflow"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOG], capture_output=True, text=True, check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_TOKEN": server.token},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_workspace_does_not_see_anothers(server: Server) -> None:
    assert "hello ['/mine'" in log_from(server, "dev")
    assert "hello ['/mine'" in log_from(server, "prod")
    homes = Path(server.root, "workspaces")
    for name in ("dev", "prod"):
        assert len(list((homes / name / "mlartifacts").rglob("greeting.txt"))) == 1
    name = {"name": "only.in.prod"}
    assert server.call("prod", "POST", "/api/2.0/mlflow/registered-models/create", **name).status_code == 200
    path = "/api/2.0/mlflow/registered-models/get?name=only.in.prod"
    assert [server.call(one, "GET", path).status_code for one in ("prod", "staging")] == [200, 404]
    databricks = "/api/2.0/mlflow/databricks/registered-models/get?name=only.in.prod"
    assert [server.call(one, "GET", databricks).status_code for one in ("prod", "staging")] == [200, 404]


def test_its_pages_are_below_the_workspaces_name(server: Server) -> None:
    cookie = {"Cookie": f"workspace_token={server.token}"}
    for path in ("/mlflow", "/mlflow/", "/dev/mlflow"):
        assert requests.get(f"{server.url}{path}", headers=cookie, timeout=9).url == f"{server.url}/dev/mlflow/"
    page = requests.get(f"{server.url}/prod/mlflow/", headers=cookie, timeout=9)
    assert (page.url, "MLflow" in page.text) == (f"{server.url}/prod/mlflow/", True)
    refused = requests.get(f"{server.url}/prod/mlflow/api/2.0/mlflow/experiments/search", timeout=9)
    assert refused.status_code == 403


def test_it_is_started_by_the_first_request_for_it(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.prepare("dev")
        assert server.jobs("dev") == {}
        assert not list(server.root.rglob("mlflow.db"))
        asked = server.call("dev", "GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default")
        assert asked.json()["experiment"]["experiment_id"] == "0"
        assert {file.parent.name for file in server.root.rglob("mlflow.db")} == {"dev", "staging", "prod"}
