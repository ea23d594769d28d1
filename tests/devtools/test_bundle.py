"""deployment.yml as a Declarative Automation Bundle: what Databricks' own package says of it, and field by field."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.bundles.jobs import Job

from booking_mlops.errors import ConfigError
from devtools.bundle import bundle_files, jobs_of
from devtools.deployment_file import read_deployment
from tests.conftest import ROOT, Cli

DEPLOYMENT = read_deployment(ROOT / "deployment.yml")
FILES = bundle_files(DEPLOYMENT)
JOBS = {(target, job["name"]): job for target, _, job in jobs_of(FILES)}
WORKFLOWS = {
    (environment, workflow["name"]): workflow
    for environment, content in DEPLOYMENT["environments"].items()
    for workflow in content["workflows"]
}


def test_every_workflow_is_a_job_of_its_environments_target() -> None:
    assert set(JOBS) == set(WORKFLOWS)
    assert len(JOBS) == 28


@pytest.mark.parametrize("name", JOBS, ids="/".join)
def test_databricks_own_package_knows_every_field(name: tuple[str, str]) -> None:
    Job.from_dict(JOBS[name])
    with pytest.raises((ValueError, TypeError)):
        Job.from_dict({**JOBS[name], "retries": 3})


@pytest.mark.parametrize("name", JOBS, ids="/".join)
def test_a_job_says_what_its_workflow_says(name: tuple[str, str]) -> None:
    job, workflow = JOBS[name], WORKFLOWS[name]
    same = ("name", "timeout_seconds", "max_concurrent_runs", "job_clusters", "schedule", "email_notifications")
    assert {key: job.get(key) for key in same} == {key: workflow.get(key) for key in same}
    assert set(job) - {"permissions"} == set(workflow) - {"access_control_list"}
    assert [entry["level"] for entry in job.get("permissions", [])] == [
        entry["permission_level"] for entry in workflow.get("access_control_list", [])
    ]
    for task, before in zip(job["tasks"], workflow["tasks"], strict=True):
        assert task["libraries"] == [{"whl": "../dist/bundle/*.whl"}]
        kept = {key: value for key, value in task.items() if key not in ("libraries", "python_wheel_task")}
        assert kept == {key: value for key, value in before.items() if key != "python_wheel_task"}
        wheel, was = task["python_wheel_task"], before["python_wheel_task"]
        assert wheel["entry_point"] == was["entry_point"]
        assert wheel["parameters"] == [
            value.replace("file:fuse://", "${workspace.file_path}/") for value in was["parameters"]
        ]


def test_names_are_looked_up_and_files_are_where_the_bundle_puts_them() -> None:
    root, variable = FILES["databricks.yml"], "service_principal_booking_mlops_prod"
    # A workspace that has only its own principal is asked for no other.
    assert root["variables"] == {variable: {"description": "service principal booking-mlops-prod", "default": ""}}
    looked_up = {name: content["targets"][name].get("variables") for name, content in _resources().items()}
    lookup = {variable: {"lookup": {"service_principal": "booking-mlops-prod"}}}
    assert looked_up == {"dev": None, "staging": None, "prod": lookup}
    job = JOBS[("prod", "prod-model-train")]
    principal = "${var.service_principal_booking_mlops_prod}"
    assert job["run_as"] == {"service_principal_name": principal}
    assert job["permissions"][0] == {"level": "IS_OWNER", "service_principal_name": principal}
    folder = f"/Workspace/Users/{principal}/.bundle/${{bundle.name}}/${{bundle.target}}"
    assert root["targets"]["prod"] == {"mode": "production", "workspace": {"root_path": folder}}
    # A profile in the file would win over DATABRICKS_HOST.
    assert "profile" not in str(FILES)
    assert [target for target, content in root["targets"].items() if content.get("default")] == ["dev"]
    named = {part for value in _texts(FILES) for part in value.split("${")[1:]}
    assert {part.partition("}")[0] for part in named} == {
        *("workspace.file_path", f"var.{variable}", "bundle.name", "bundle.target")
    }


def _resources() -> dict[str, Any]:
    return {name[len("resources/") : -len(".yml")]: FILES[name] for name in FILES if name.startswith("resources/")}


def test_the_wheel_is_built_into_a_folder_of_its_own(tmp_path: Path) -> None:
    wheel = FILES["databricks.yml"]["artifacts"]["wheel"]
    assert wheel["files"] == [{"source": "dist/bundle/*.whl"}]
    folders = [tmp_path / "dist" / "bundle", tmp_path / "build" / "lib", tmp_path / "dist"]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "old.whl").touch()
    # `python3` stands in for a build that takes a minute.
    stand_in = tmp_path / "python3"
    stand_in.write_text('#!/bin/sh\nmkdir -p dist/bundle && echo "$@" > dist/bundle/new.whl\n', encoding="utf-8")
    stand_in.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", wheel["build"]], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    assert [file.name for file in folders[0].iterdir()] == ["new.whl"]
    assert not (tmp_path / "build").exists()
    assert (tmp_path / "dist" / "old.whl").exists()
    assert (folders[0] / "new.whl").read_text().split()[:3] == ["-m", "pip", "wheel"]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def changed(environments: Any = None, **task: Any) -> dict[str, Any]:
    one = {"task_key": "t", "python_wheel_task": {"package_name": "p", "entry_point": "e"}, **task}
    workflow = {"name": "dev-x", "tasks": [one], **({"environments": environments} if environments else {})}
    files = bundle_files({"environments": {"dev": {"workflows": [workflow]}}})
    (job,) = [job for _, _, job in jobs_of(files)]
    Job.from_dict(job)
    variables = files["resources/dev.yml"]["targets"]["dev"].get("variables")
    return {"variables": variables, "task": job["tasks"][0], "job": job}


def test_what_else_dbx_looks_up() -> None:
    found = changed(existing_cluster_id="cluster://booking-mlops")
    assert found["task"]["existing_cluster_id"] == "${var.cluster_booking_mlops}"
    assert found["variables"]["cluster_booking_mlops"]["lookup"] == {"cluster": "booking-mlops"}
    assert "libraries" not in changed(deployment_config={"no_package": True})["task"]
    serverless = [{"environment_key": "one", "spec": {"environment_version": "4"}}]
    found = changed(serverless, environment_key="one")
    assert "libraries" not in found["task"]
    spec = {"environment_version": "4", "dependencies": ["../dist/bundle/*.whl"]}
    assert found["job"]["environments"] == [{"environment_key": "one", "spec": spec}]
    with pytest.raises(ConfigError, match="dev-x: a bundle has no word for warehouse://w"):
        changed(existing_cluster_id="warehouse://w")


def test_the_command_writes_it_once_and_again_only_when_told(tmp_path: Path, booking_mlops: Cli) -> None:
    done = booking_mlops("deployment", "to-bundle", "--out", tmp_path)
    assert done.code == 0, done.err
    assert "28 jobs; deploy them with: databricks bundle deploy --target ENV" in done.out
    for name, content in FILES.items():
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert yaml.safe_load(text) == content
        assert "&id" not in text
    again = booking_mlops("deployment", "to-bundle", "--out", tmp_path)
    assert again.code == 1
    assert "exists; choose another --out, or add --force" in again.err
    assert booking_mlops("deployment", "to-bundle", "--out", tmp_path, "--force").code == 0
    shutil.rmtree(tmp_path)
