"""The Databricks workspace a task runs in: its permissions and jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from booking_mlops.errors import WorkspaceError

Entries = Sequence[Mapping[str, str]]

_MODEL_PRIVILEGES = {"CAN_READ": ["EXECUTE"], "CAN_EDIT": ["APPLY_TAG"], "CAN_MANAGE": ["ALL_PRIVILEGES"]}
_SCHEMA_PRIVILEGES = {
    "CAN_READ": ["USE_SCHEMA", "SELECT"],
    "CAN_EDIT": ["USE_SCHEMA", "SELECT", "MODIFY"],
    "CAN_MANAGE": ["ALL_PRIVILEGES"],
}


def in_workspace(environ: Mapping[str, str]) -> bool:
    """Whether there is a workspace to talk to: on a cluster, or where a host is given."""
    return "DATABRICKS_RUNTIME_VERSION" in environ or "DATABRICKS_HOST" in environ


class Workspace:
    """The workspace's REST API, with the credentials the process was given."""

    def __init__(self) -> None:
        self._client: Any = None

    def _call(self, method: str, path: str, doing: str, **more: Any) -> dict[str, Any]:
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.errors import DatabricksError

        try:
            if self._client is None:
                self._client = WorkspaceClient().api_client
            answer = self._client.do(method, path, **more)
        except (DatabricksError, ValueError, OSError) as error:
            raise WorkspaceError(f"{doing}: {str(error).splitlines()[0][:300]}") from error
        return dict(answer or {})

    def grant_experiment(self, experiment_id: str, entries: Entries) -> None:
        """Add permissions on an experiment; those of others stay."""
        self._grant("experiments", experiment_id, entries)

    def grant_model(self, name: str, entries: Entries) -> None:
        """Add permissions on a model of the workspace registry; those of others stay."""
        path = "/api/2.0/mlflow/databricks/registered-models/get"
        found = self._call("GET", path, f"registered model {name}", query={"name": name})
        self._grant("registered-models", str(found["registered_model_databricks"]["id"]), entries)

    def grant_unity_catalog_model(self, name: str, entries: Entries) -> None:
        """Add privileges on a Unity Catalog model, which is a function to its permissions API."""
        self._grant_in_unity_catalog("function", name, entries, _MODEL_PRIVILEGES)

    def grant_schema(self, name: str, entries: Entries) -> None:
        """Add privileges on a Unity Catalog schema, given as `catalog.schema`; its tables inherit them."""
        self._grant_in_unity_catalog("schema", name, entries, _SCHEMA_PRIVILEGES)

    def _grant_in_unity_catalog(
        self, kind: str, name: str, entries: Entries, privileges: Mapping[str, list[str]]
    ) -> None:
        changes = [
            {
                "principal": entry.get("user_name") or entry.get("group_name") or entry.get("service_principal_name"),
                "add": privileges[entry["permission_level"]],
            }
            for entry in entries
        ]
        path = f"/api/2.1/unity-catalog/permissions/{kind}/{quote(name)}"
        self._call("PATCH", path, f"permissions of {name}", body={"changes": changes})

    def start_job(self, name: str) -> int | None:
        """Start a run of the job of that name and return its id; None when one is under way.

        Raises: WorkspaceError, also when there is no such job.
        """
        doing = f"job {name}"
        jobs = self._call("GET", "/api/2.1/jobs/list", doing, query={"name": name}).get("jobs") or []
        if not jobs:
            raise WorkspaceError(f"{doing}: the workspace has none of that name; deploy it, or change retrain_job")
        query = {"job_id": jobs[0]["job_id"], "active_only": "true"}
        if self._call("GET", "/api/2.1/jobs/runs/list", doing, query=query).get("runs"):
            return None
        started = self._call("POST", "/api/2.1/jobs/run-now", doing, body={"job_id": jobs[0]["job_id"]})
        return int(started["run_id"])

    def run_failed(self, run_id: int) -> bool:
        """Say whether a job's run has ended without success; False of one that the workspace does not know any more."""
        try:
            run = self._call("GET", "/api/2.1/jobs/runs/get", f"run {run_id}", query={"run_id": run_id})
        except WorkspaceError:
            return False
        state = run.get("state") or {}
        ended = state.get("life_cycle_state") in ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
        return ended and state.get("result_state") != "SUCCESS"

    def _grant(self, kind: str, identifier: str, entries: Entries) -> None:
        body = {"access_control_list": [dict(entry) for entry in entries]}
        self._call("PATCH", f"/api/2.0/permissions/{kind}/{quote(identifier)}", f"permissions of {kind}", body=body)
