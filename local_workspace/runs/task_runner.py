"""Run one task: prepare its cluster and wheels, start its process, and try again when it fails."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from local_workspace import process
from local_workspace.dbfs import is_in_root, without_mounts
from local_workspace.errors import ApiError, not_found
from local_workspace.layout import Layout
from local_workspace.runs.records import RunRecords
from local_workspace.runs.requests import arguments
from local_workspace.runs.states import now, state
from local_workspace.runs.task_environment import TaskEnvironment
from local_workspace.store import CLUSTER, TASK_RUN, Document, Store

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_WORKSPACE = "/Workspace"
# Retries in production may wait for minutes; here nobody wants to.
_MAX_RETRY_WAIT_SECONDS = 5.0
# The first runtime that installs no libraries from DBFS root, and the setting of a cluster that makes it do so.
_NO_DBFS_LIBRARIES = 15
_DBFS_LIBRARIES_ALLOWED = "spark.databricks.driver.dbfsLibraryInstallationAllowed"


@dataclass(frozen=True)
class _Launch:
    """What each attempt at a task is started with."""

    command: list[str]
    variables: dict[str, str]
    folder: Path
    cluster_id: str
    cluster_folder: Path


class TaskRunner:
    """Runs tasks, each in a process of its own, and records how they end."""

    def __init__(
        self, store: Store, layout: Layout, records: RunRecords, environment: TaskEnvironment, *, dbfs_root: bool
    ) -> None:
        self._store = store
        self._layout = layout
        self._records = records
        self._environment = environment
        self._dbfs_root = dbfs_root

    def run(self, workspace: str, run: Document, task: Document, stop: threading.Event) -> None:
        """Run a task until it has ended or `stop` is set. An error of any kind is recorded as the task's failure."""
        try:
            launch = self._prepare(workspace, run, task)
            self._attempt_until_done(workspace, task, launch, stop)
        except Exception as error:
            # A run waits for each of its tasks to end: an exception that is not recorded would let it wait forever.
            if not isinstance(error, ApiError):
                log.exception("task %s", task["task_key"])
            self._write_log(task, f"error: {error}")
            self._records.end_task(workspace, task, "INTERNAL_ERROR", "FAILED", str(error))

    def _prepare(self, workspace: str, run: Document, task: Document) -> _Launch:
        task_run_id = task["run_id"]
        self._layout.log(task_run_id).parent.mkdir(parents=True, exist_ok=True)
        preparing = state("PENDING", message="Preparing")
        self._store.change(workspace, TASK_RUN, task_run_id, start_time=now(), state=preparing)
        cluster_id = self._start_cluster(workspace, task)
        cluster = self._store.get(workspace, CLUSTER, cluster_id) or job_cluster(run["settings"], task)
        refuse_dbfs_libraries(task, {**cluster, "cluster_id": cluster_id}, dbfs_root=self._dbfs_root)
        wheels = self._install_wheels(workspace, task, libraries_of(run["settings"], task))
        mounts = self._layout.mounts(workspace)
        cluster_folder = self._layout.cluster(run["run_id"], cluster_id)
        variables = self._environment.variables(
            workspace,
            run["run_as_user_name"],
            PYTHONPATH=":".join(map(str, wheels)),
            LOCAL_CLUSTER=str(cluster_folder),
            LOCAL_MOUNTS=json.dumps(mounts),
        )
        folder = self._layout.home(workspace) / "runs" / str(task_run_id)
        return _Launch(_command(run, task, mounts), variables, folder, cluster_id, cluster_folder)

    def _install_wheels(self, workspace: str, task: Document, libraries: list[Document]) -> list[Path]:
        dbfs, files = self._layout.dbfs(workspace), self._layout.workspace_files(workspace)

        def local(path: str) -> Path:
            in_workspace = path.startswith(f"{_WORKSPACE}/")
            return files.local(path.removeprefix(_WORKSPACE)) if in_workspace else dbfs.local(path)

        wheels = {path: local(path) for path in process.wheels_of(libraries)}
        for path, file in wheels.items():
            if not file.is_file():
                raise not_found(f"library {path} is not there")
        return process.install_wheels(list(wheels.values()), self._layout.wheels, self._layout.log(task["run_id"]))

    def _start_cluster(self, workspace: str, task: Document) -> str:
        """Start the task's existing cluster if need be and return its id; a job cluster's id is made up."""
        cluster_id = task.get("existing_cluster_id")
        if not cluster_id:
            return f"job-{task['parent_run_id']}-{task.get('job_cluster_key') or task['task_key']}"
        cluster = self._store.get(workspace, CLUSTER, cluster_id)
        if cluster is None:
            raise not_found(f"Cluster {cluster_id} does not exist")
        if cluster["state"] != "RUNNING":
            self._write_log(task, f"Cluster {cluster['cluster_name']} was {cluster['state']}; started")
            self._store.change(workspace, CLUSTER, cluster_id, state="RUNNING", start_time=now())
        return str(cluster_id)

    def _attempt_until_done(self, workspace: str, task: Document, launch: _Launch, stop: threading.Event) -> None:
        max_retries = int(task.get("max_retries") or 0)
        attempt, began = 0, self._store.change(workspace, TASK_RUN, task["run_id"])["start_time"]
        self._store.change(workspace, TASK_RUN, task["run_id"], setup_duration=now() - began)
        while True:
            self._store.change(
                workspace,
                TASK_RUN,
                task["run_id"],
                attempt_number=task["attempt_number"] + attempt,
                state=state("RUNNING"),
                cluster_instance={"cluster_id": launch.cluster_id},
            )
            result, message = self._attempt(workspace, task, launch, stop)
            if result != "SUCCESS":
                # The JVM may be in any state when the task failed or was stopped: the next attempt gets a new one.
                process.end_shared_jvm(launch.cluster_folder)
            again = result == "FAILED" or (result == "TIMEDOUT" and task.get("retry_on_timeout"))
            if not again or stop.is_set() or (max_retries >= 0 and attempt >= max_retries):
                break
            attempt += 1
            self._write_log(task, f"{message} Attempt {attempt + 1} of {max_retries + 1} follows.")
            stop.wait(min(float(task.get("min_retry_interval_millis") or 0) / 1000, _MAX_RETRY_WAIT_SECONDS))
        self._records.end_task(workspace, task, "TERMINATED", result, message)

    def _attempt(self, workspace: str, task: Document, launch: _Launch, stop: threading.Event) -> tuple[str, str]:
        """Run the task's process once; return the result state and its message."""
        seconds = task.get("timeout_seconds") or 0
        deadline = time.monotonic() + seconds if seconds else None
        log_file = self._layout.log(task["run_id"])
        started = process.start(launch.command, launch.variables, launch.folder, log_file)
        ticks = process.start_ticks(started.pid)
        self._store.change(workspace, TASK_RUN, task["run_id"], process_id=started.pid, process_birth=ticks)
        try:
            while started.poll() is None:
                if stop.is_set():
                    return "CANCELED", "The run was canceled."
                if deadline is not None and time.monotonic() > deadline:
                    return "TIMEDOUT", f"The task took longer than {seconds} seconds."
                time.sleep(_POLL_SECONDS)
        finally:
            # End the whole process group: a program that has ended may have left a JVM of its own.
            process.kill_group(started.pid)
            started.wait()
            self._store.change(workspace, TASK_RUN, task["run_id"], process_id=None)
        if started.returncode == 0:
            return "SUCCESS", ""
        return "FAILED", f"The task ended with exit code {started.returncode}."

    def _write_log(self, task: Document, line: str) -> None:
        with self._layout.log(task["run_id"]).open("a", encoding="utf-8") as output:
            output.write(f"{line}\n")


def refuse_dbfs_libraries(task: Document, cluster: Document, *, dbfs_root: bool) -> None:
    """Refuse a library on DBFS root where there is none, or for a runtime that installs nothing from there.

    A setting of the cluster makes such a runtime install it.

    Raises: ApiError 400.
    """
    paths = [path for path in process.wheels_of(task.get("libraries") or []) if path.startswith("dbfs:/")]
    found = [path for path in paths if is_in_root(path)]
    if not found:
        return
    version = str(cluster.get("spark_version") or "").partition(".")[0]
    allowed = str((cluster.get("spark_conf") or {}).get(_DBFS_LIBRARIES_ALLOWED, "")).lower() == "true"
    if not allowed and version.isdigit() and int(version) >= _NO_DBFS_LIBRARIES:
        cause = "BAD_REQUEST: DBFS library installations are not supported on DBR 15 or above."
    elif not dbfs_root:
        cause = f"PERMISSION_DENIED: Public DBFS root is disabled. Access is denied on path: {found[0]}"
    else:
        return
    raise ApiError(
        400,
        "BAD_REQUEST",
        f'Library installation failed for library due to user error for whl: "{found[0]}"\n Error messages:\n'
        f"Library installation attempted on the driver node of cluster {cluster['cluster_id']} and failed. Please "
        "refer to the following error message to fix the library or contact Databricks support. Error Code: "
        f"DRIVER_LIBRARY_INSTALLATION_FAILURE. Error Message: com.databricks.api.base.DatabricksServiceException: "
        f"{cause}",
    )


def job_cluster(settings: Document, task: Document) -> Document:
    """Return the settings of a task's job cluster; empty for a task without one."""
    shared = {one["job_cluster_key"]: one["new_cluster"] for one in settings.get("job_clusters") or []}
    return dict(task.get("new_cluster") or shared.get(task.get("job_cluster_key")) or {})


def libraries_of(settings: Document, task: Document) -> list[Document]:
    """Return a task's libraries; on serverless compute they are the dependencies of its environment."""
    if not task.get("environment_key"):
        return list(task.get("libraries") or [])
    environments = {one["environment_key"]: one.get("spec") or {} for one in settings.get("environments") or []}
    found = environments.get(task["environment_key"], {}).get("dependencies") or []
    return [{"whl" if str(one).endswith(".whl") else "pypi": one} for one in found]


def _command(run: Document, task: Document, mounts: dict[str, str]) -> list[str]:
    wheel_task = task["python_wheel_task"]
    return [
        *(sys.executable, "-c", process.TASK_PROGRAM, wheel_task["package_name"], wheel_task["entry_point"]),
        *[without_mounts(argument, mounts) for argument in arguments(run, task)],
    ]
