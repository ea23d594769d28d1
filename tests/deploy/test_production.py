"""Prod from end to end, as its service principal, with Unity Catalog's registry and files in volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deltalake
import requests

from tests.conftest import write_bookings
from tests.deploy.conftest import Server
from tests.deploy.test_workspace import PRINCIPAL, results

FILES = "/Volumes/prod/booking/files"
# The data are few and the forests small.
EASY = ("gates.min_holdout_rows=100", "gates.min_roc_auc=0.6", "gates.max_importance=1", "gates.min_as_of_roc_auc=0.5",
        "gates.max_calibration_error=1", "comparison.bootstrap_samples=200")  # fmt: skip
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "folder": ("setup-data", (f"source_csv={FILES}/in",)),
    "pattern": ("setup-data", (f"source_csv=dbfs:{FILES}/more/part-*.csv",)),
    "features": ("feature-table-creation", ()),
    "first": ("model-train", (*EASY, "model.max_depth=2", "model.n_estimators=20")),
    "second": ("model-train", (*EASY, "model.n_estimators=40", "promotion.approval=required")),
    "approve": ("model-approve", ("version=2", "reason=looked at")),
    "scores": ("model-inference-batch", ()),
    "rollback": ("model-rollback", ("reason=too many alarms",)),
    "monitor": ("model-monitor", ()),
}


def upload(server: Server, folder: Path) -> None:
    """Four files, two of them in a folder and two that a pattern means."""
    header, *lines = write_bookings(folder / "all.csv", 6000)
    for number, name in enumerate(("in/a.csv", "in/b b.csv", "more/part-1.csv", "more/part-2.csv")):
        file = folder / "part.csv"
        file.write_text("\n".join([header, *lines[number::4]]) + "\n", encoding="utf-8")
        path = f"/api/2.0/fs/files{FILES}/{name}?overwrite=true"
        assert server.upload("prod", "PUT", path, file) == 204


def test_every_task_of_prod_with_the_registry_of_unity_catalog(server: Server, tmp_path: Path) -> None:
    server.prepare("prod")
    changes = [{"principal": PRINCIPAL, "add": ["USE_SCHEMA", "CREATE_TABLE", "CREATE_MODEL", "MANAGE", "READ_VOLUME"]}]
    path = "/api/2.1/unity-catalog/permissions/schema"
    for name, given in (("prod.booking", changes), ("prod.deployments", changes)):
        assert server.call("prod", "PATCH", f"{path}/{name}", changes=given).status_code == 200
    upload(server, tmp_path)
    assert server.dbx("deploy", "--environment", "prod").returncode == 0
    run = run_tasks(server)
    logs = {task["task_key"]: server.log("prod", task["run_id"]) for task in run["tasks"]}
    assert results(run) == dict.fromkeys(TASKS, "SUCCESS"), "\n".join(
        logs[key] for key, state in results(run).items() if state == "FAILED"
    )
    assert run["run_as_user_name"] == PRINCIPAL
    assert "3,000 rows" in logs["folder"]
    assert "6,000 rows" in logs["pattern"]
    for key, text in {
        "first": "promoted: first model to pass the gates",
        "second": "waiting: waits for approval: better than the champion",
        "approve": "version 2, was version 1",
        "scores": "prod.booking.booking_cancellation version 2",
        "rollback": "version 1, was version 2",
    }.items():
        assert text in logs[key], logs[key]

    model = "prod.booking.booking_cancellation"
    registered = server.call("prod", "GET", f"/api/2.0/mlflow/unity-catalog/registered-models/get?name={model}").json()
    aliases = {one["alias"]: one["version"] for one in registered["registered_model"]["aliases"]}
    assert aliases == {"champion": "1", "challenger": "2"}
    assert registered["registered_model"]["user_id"] == PRINCIPAL
    lake = server.root / "workspaces" / "prod" / "lake" / "warehouse" / "prod__booking.db"
    predictions = deltalake.DeltaTable(lake / "predictions").to_pyarrow_table().to_pylist()
    assert len(predictions) == 6000
    assert {row["model_version"] for row in predictions} == {2}
    decided = deltalake.DeltaTable(lake / "promotions").to_pyarrow_table().to_pylist()
    assert sorted(row["decision"] for row in decided) == ["approved", "promoted", "rolled_back", "waiting"]
    assert {row["principal"] for row in decided} == {PRINCIPAL}
    # The report is where Databricks keeps artifacts, and the page of MLflow's server shows it.
    run_id = predictions[0]["model_run_id"]
    shown = requests.get(
        f"{server.url}/prod/mlflow/get-artifact?run_uuid={run_id}&path=report.html",
        headers={"Cookie": f"workspace_token={server.token}"}, timeout=30,
    )  # fmt: skip
    assert "In plain words" in shown.text


def run_tasks(server: Server) -> dict[str, Any]:
    """Run TASKS one after the other, each as its job in prod has it, on one cluster."""
    jobs, tasks = server.jobs("prod"), []
    for key, (entry_point, settings) in TASKS.items():
        job = server.api("prod", "GET", f"jobs/get?job_id={jobs[f'prod-{entry_point}']}")["settings"]
        (task,) = job["tasks"]
        task["python_wheel_task"]["parameters"] += [one for setting in settings for one in ("--set", setting)]
        before = [{"task_key": tasks[-1]["task_key"]}] if tasks else []
        tasks.append({**task, "task_key": key, "depends_on": before, "max_retries": 0})
    created = server.api(
        "prod", "POST", "jobs/create", name="all of prod", tasks=tasks, job_clusters=job["job_clusters"],
        run_as={"service_principal_name": PRINCIPAL},
    )  # fmt: skip
    return server.wait("prod", server.run("prod", created["job_id"]), 1500)
