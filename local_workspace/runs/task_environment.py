"""Build the environment variables of a process that does a workspace's work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from local_workspace import process
from local_workspace.addresses import client_variables
from local_workspace.layout import Layout


@dataclass(frozen=True)
class TaskEnvironment:
    """What the processes of tasks and execution contexts have in common."""

    layout: Layout
    url: str
    token_of: Callable[[str, str], str]

    def variables(self, workspace: str, principal: str, **added: str) -> dict[str, str]:
        """Return the variables of a process that runs in a workspace as `principal`, with its token."""
        token = self.token_of(workspace, principal)
        conf_dir = self.layout.home(workspace) / "spark-conf"
        return process.task_variables(
            {
                # As on a cluster; the registry is what conf/envs/ENV.yml says.
                "MLFLOW_TRACKING_URI": "databricks",
                **client_variables(self.url, token, workspace),
                "BOOKING_PRINCIPAL": principal,
                "BOOKING_LAKE": str(self.layout.lake(workspace)),
                # As on a cluster, Spark's workers run the driver's Python, not the first python3 on the PATH.
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_CONF_DIR": str(process.spark_conf_dir(conf_dir, self.layout.dbfs(workspace).root)),
                **added,
            }
        )
