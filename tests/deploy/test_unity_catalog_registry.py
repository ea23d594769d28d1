"""`databricks-uc` with MLflow's own clients, of MLflow 3 and of dbx's MLflow 2: aliases, no stages, files copied."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.deploy.conftest import IN_AN_ENVIRONMENT_OF_ITS_OWN, MLFLOW_2, MLFLOW_3, NEWEST, Server

# Each program gets the name of a model and the folders of two; it prints what it found as one line of JSON.
HEAD = """
import json, logging, sys, pathlib, mlflow
from mlflow.exceptions import MlflowException
logging.getLogger("mlflow").setLevel("ERROR")
name, folder, unsigned = sys.argv[1:]
mlflow.set_registry_uri("databricks-uc")
client = mlflow.MlflowClient()
def refused(call):
    try: call()
    except MlflowException as error: return f"{error.error_code}: {error.message}"
    return "not refused"
"""
WRITE = """
found = {"missing": refused(lambda: client.get_registered_model(name)),
         "two levels": refused(lambda: client.create_registered_model("a.b"))}
client.create_registered_model(name, tags={"team": "ml"}, description="made by a test")
found["again"] = refused(lambda: client.create_registered_model(name))
found["unsigned"] = refused(lambda: client.create_model_version(name, unsigned))
one = client.create_model_version(name, folder, tags={"rows": "5"})
two = client.create_model_version(name.upper(), folder, description="second")
client.set_registered_model_alias(name, "champion", two.version)
client.set_model_version_tag(name, one.version, "seen", "yes")
client.delete_model_version_tag(name, one.version, "rows")
print(json.dumps(found))
"""
READ = """
found = {}
model, champion = client.get_registered_model(name), client.get_model_version_by_alias(name, "champion")
found["model"] = [model.name, model.description, model.tags, {k: str(v) for k, v in model.aliases.items()}]
found["versions"] = [[str(v.version), v.status, v.tags, v.aliases, v.description]
                     for v in (client.get_model_version(name, "1"), champion)]
found["list"] = sorted([str(v.version), v.status] for v in client.search_model_versions(f"name='{name}'"))
found["models"] = [m.name for m in client.search_registered_models()]
got = pathlib.Path(mlflow.artifacts.download_artifacts(f"models:/{name}@champion"))
found["files"] = sorted(str(p.relative_to(got)) for p in got.rglob("*") if p.is_file())
found["text"] = (got / "data" / "weights.txt").read_text()
found["stage"] = refused(lambda: client.transition_model_version_stage(name, "1", "Production"))
found["no alias"] = refused(lambda: client.get_model_version_by_alias(name, "challenger"))
found["filter"] = refused(lambda: client.search_model_versions("tags.a = 'b'"))
print(json.dumps(found))
"""
OURS = """
from pathlib import Path
from booking_mlops.io.machine import Machine
from booking_mlops.io.registry import Registry
uris = {"tracking_uri": "databricks", "registry_uri": "databricks-uc"}
registry = Registry(Machine(True, Path()), model_name=name, experiment="e", environ={}, **uris)
versions, champion = registry.versions(), registry.champion()
print(json.dumps({"ours": [[one.number, dict(one.tags)] for one in versions], "champion": champion.number}))
"""
DELETE = """
found = {}
client.delete_registered_model_alias(name, "champion")
client.delete_model_version(name, "2")
found["gone"] = refused(lambda: client.get_model_version(name, "2"))
client.delete_registered_model(name)
found["all gone"] = refused(lambda: client.get_registered_model(name))
print(json.dumps(found))
"""
SIGNATURE = """
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}]'
  outputs: '[{"type": "double", "required": true}]'
"""
MLMODEL = "flavors: {python_function: {loader_module: none, env: {}}}\nmodel_uuid: aa\nutc_time_created: '2026-01-01'\n"
# Without the first, presigned addresses are used.
BY_SDK = "MLFLOW_USE_DATABRICKS_SDK_MODEL_ARTIFACTS_REPO_FOR_UC"


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a model with a signature, and of one without."""
    for name, text in (("signed", MLMODEL + SIGNATURE), ("unsigned", MLMODEL)):
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        (folder / "MLmodel").write_text(text, encoding="utf-8")
        (folder / "data" / "weights.txt").write_text("w", encoding="utf-8")
    return tmp_path / "signed", tmp_path / "unsigned"


def run(server: Server, python: str, program: str, models: tuple[Path, Path], **variables: str) -> dict[str, Any]:
    """What a program finds that works with the model dev.registry.cancellation."""
    own = {"MLFLOW_TRACKING_URI": "databricks", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", **variables}
    done = subprocess.run(
        [python, "-W", "ignore", "-c", HEAD + program, "dev.registry.cancellation", *map(str, models)],
        env={**server.environment("dev"), **own}, capture_output=True, text=True, check=False, cwd=models[0],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "python", [pytest.param(MLFLOW_3, id="3"), pytest.param(NEWEST, id="newest", marks=IN_AN_ENVIRONMENT_OF_ITS_OWN)]
)
def test_models_live_in_schemas_with_aliases_and_files_of_their_own(
    server: Server, models: tuple[Path, Path], python: str
) -> None:
    server.volume("dev", "registry", "unused")
    name = "dev.registry.cancellation"
    said = run(server, python, WRITE, models)
    for reader, variables in ((python, {}), (python, {BY_SDK: "false"}), (MLFLOW_2, {BY_SDK: "false"})):
        found = run(server, reader, READ, models, **variables)
        assert found["model"] == [name, "made by a test", {"team": "ml"}, {"champion": "2"}]
        assert found["versions"] == [
            ["1", "READY", {"seen": "yes"}, [], ""], ["2", "READY", {}, ["champion"], "second"],
        ]  # fmt: skip
        assert found["list"] == [["1", "READY"], ["2", "READY"]]
        assert found["models"] == [name]
        # MLflow adds what it knows about the registered version to a download.
        assert {"MLmodel", "data/weights.txt"} <= set(found["files"])
        assert found["text"] == "w"
        said |= found
    ours = run(server, MLFLOW_3, OURS, models, PYTHONPATH=str(ROOT))
    assert ours == {"ours": [[1, {"seen": "yes"}], [2, {}]], "champion": 2}
    said |= run(server, python, DELETE, models)
    for what, message in {
        "missing": "RESOURCE_DOES_NOT_EXIST: Routine or Model 'dev.registry.cancellation' does not exist",
        "two levels": "all three levels",
        "again": "RESOURCE_ALREADY_EXISTS",
        "unsigned": "signature",
        "stage": "unsupported for models in the Unity Catalog",
        "no alias": "RESOURCE_DOES_NOT_EXIST",
        "filter": "Unsupported filter query",
        "gone": "RESOURCE_DOES_NOT_EXIST",
        "all gone": "does not exist",
    }.items():
        assert message in said[what], said
    assert not (server.root / "workspaces/dev/models/dev/registry/cancellation").exists()


def test_a_version_without_a_signature_is_never_ready_and_a_ready_one_never_changes(
    server: Server, models: tuple[Path, Path]
) -> None:
    """What clients check themselves, asked for without one."""
    server.volume("dev", "registry", "unused")
    path, name = "/api/2.0/mlflow/unity-catalog", "dev.registry.unsigned"
    assert server.call("dev", "POST", f"{path}/registered-models/create", name=name).status_code == 200
    file = "/api/2.0/fs/files/Models/dev/registry/unsigned/1/MLmodel"
    assert server.upload("dev", "PUT", file, models[1] / "MLmodel") == 404
    made = server.call("dev", "POST", f"{path}/model-versions/create", name=name, source="x").json()["model_version"]
    assert (made["version"], made["status"], made["user_id"]) == (
        "1", "PENDING_REGISTRATION", "developer@workspace.test",
    )  # fmt: skip
    finalize = (f"{path}/model-versions/finalize", {"name": name, "version": "1"})
    assert server.call("dev", "POST", finalize[0], **finalize[1]).status_code == 400
    assert server.upload("dev", "PUT", file, models[1] / "MLmodel") == 204
    refused = server.call("dev", "POST", finalize[0], **finalize[1])
    assert (refused.status_code, "must be logged with a model signature" in refused.json()["message"]) == (400, True)
    assert server.upload("dev", "PUT", f"{file}?overwrite=true", models[0] / "MLmodel") == 204
    ready = server.call("dev", "POST", finalize[0], **finalize[1])
    assert ready.json()["model_version"]["status"] == "READY"
    assert server.upload("dev", "PUT", f"{file}?overwrite=true", models[0] / "MLmodel") == 403
    assert server.call("dev", "DELETE", file).status_code == 403
    assert server.call("dev", "DELETE", f"{path}/registered-models/delete", name=name).status_code == 200
    assert list((server.root / "workspaces/dev/models/dev/registry").iterdir()) == []
