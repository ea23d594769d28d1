"""Find in the compute of a deployment file what Databricks refuses, some of it only when a run starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Tree = Mapping[str, Any]

_RUNTIME = re.compile(r"^(\d+)\.")
# The first runtime that installs no libraries from DBFS root, and the setting of a cluster that makes it do so.
_NO_DBFS_LIBRARIES = 15
_DBFS_LIBRARIES_ALLOWED = "spark.databricks.driver.dbfsLibraryInstallationAllowed"
# Each task names one of these.
_COMPUTE = ("existing_cluster_id", "new_cluster", "job_cluster_key", "environment_key")
_EXISTING_CLUSTER = re.compile(r"cluster://.+|\d{4}-\d{6}-\w+")
# The first environment of serverless compute that the wheel is known to run in.
_SERVERLESS = 4
_STANDARD = ("USER_ISOLATION", "DATA_SECURITY_MODE_STANDARD")


def clusters_of(workflow: Tree) -> Iterator[tuple[str, Tree]]:
    """Return each new cluster of a workflow with words that say where it is."""
    for shared in workflow.get("job_clusters") or []:
        yield f"job cluster {shared.get('job_cluster_key')}", shared.get("new_cluster") or {}
    for task in workflow.get("tasks") or []:
        if "new_cluster" in task:
            yield f"task {task.get('task_key')}", task["new_cluster"] or {}


def problems(cluster: Tree, artifacts: str) -> Iterator[str]:
    """Return what would keep a cluster from running the wheel, which dbx uploads to the address `artifacts`."""
    version = str(cluster.get("spark_version") or "")
    runtime = _RUNTIME.match(version)
    if runtime is None:
        yield f"spark_version {version or 'is missing'} names no runtime such as 18.x-cpu-ml-scala2.13"
        return
    allowed = str((cluster.get("spark_conf") or {}).get(_DBFS_LIBRARIES_ALLOWED, "")).lower() == "true"
    in_volume = artifacts.startswith("dbfs:/Volumes/")
    on_root = artifacts.startswith("dbfs:/") and not in_volume
    if on_root and not allowed and int(runtime[1]) >= _NO_DBFS_LIBRARIES:
        yield (
            f"runtime {version} installs no library from DBFS root, where .dbx/project.json has the wheel uploaded "
            f"({artifacts}); use dbfs:/Volumes/CATALOG/SCHEMA/VOLUME/…"
        )
    mode = cluster.get("data_security_mode")
    if in_volume and not mode:
        yield "no data_security_mode: without one a cluster does not reach Unity Catalog, nor the wheel in its volume"
    if mode in _STANDARD and "-ml-" in version:
        yield (
            f"data_security_mode {mode} is not offered for the ML runtime {version}; use SINGLE_USER, or a version "
            "without -ml-"
        )


def is_serverless(workflow: Tree) -> bool:
    """Return whether a task of the workflow runs on serverless compute, which dbx knows nothing of."""
    return any("environment_key" in task for task in workflow.get("tasks") or [])


def task_problems(task: Tree, workflow: Tree) -> Iterator[str]:
    """Return what is wrong with where a task of the workflow runs."""
    given = [key for key in _COMPUTE if key in task]
    if len(given) != 1:
        yield f"needs one of {', '.join(_COMPUTE[:-1])} and {_COMPUTE[-1]}, has {', '.join(given) or 'none'}"
    for key, defined in (("job_cluster_key", "job_clusters"), ("environment_key", "environments")):
        if key in task and task[key] not in [one.get(key) for one in workflow.get(defined) or []]:
            yield f"{key} {task[key]} is not among {defined}"
    cluster = str(task.get("existing_cluster_id", "cluster://one"))
    if not _EXISTING_CLUSTER.fullmatch(cluster):
        yield f"existing_cluster_id {cluster} is neither cluster://NAME nor an id such as 1123-123456-abcdefgh"
    if "environment_key" in task and task.get("libraries"):
        yield "on serverless compute a task has no libraries; they are dependencies of its environment"


def environment_problems(workflow: Tree) -> Iterator[str]:
    """Return what would keep the workflow's environments of serverless compute from running the wheel."""
    for environment in workflow.get("environments") or []:
        where = f"environment {environment.get('environment_key')}"
        version = str((environment.get("spec") or {}).get("environment_version") or "")
        if not version.isdigit():
            yield f'{where}: environment_version {version or "is missing"}; use "{_SERVERLESS}" or newer'
        elif int(version) < _SERVERLESS:
            yield f"{where}: environment_version {version} is older than the wheel is known to run in, {_SERVERLESS}"
