"""Find in the clusters of a deployment file what Databricks refuses only when a run starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Tree = Mapping[str, Any]

_RUNTIME = re.compile(r"^(\d+)\.")
# The first runtime that installs no libraries from DBFS root, and the setting of a cluster that makes it do so.
_NO_DBFS_LIBRARIES = 15
_DBFS_LIBRARIES_ALLOWED = "spark.databricks.driver.dbfsLibraryInstallationAllowed"
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
