"""The machine a task runs on: a Databricks cluster, or a laptop with its lake."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LAKE_VARIABLE = "BOOKING_LAKE"
_CLUSTER_VARIABLE = "DATABRICKS_RUNTIME_VERSION"


@dataclass(frozen=True)
class Machine:
    """`on_cluster` is true on Databricks, serverless compute included; `lake` is where a laptop keeps everything."""

    on_cluster: bool
    lake: Path
    serverless: bool = False

    @property
    def warehouse(self) -> Path:
        """Directory of the databases."""
        return self.lake / "warehouse"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database on this machine."""
        return f"sqlite:///{self.lake / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts on this machine."""
        return self.lake / "mlartifacts"

    def table_bytes(self) -> int:
        """Return the size in bytes of all the tables' data on this machine, older versions included."""
        total = 0
        for file in self.warehouse.glob("*.db/*/**/*.parquet"):
            # Another process may have removed it.
            with suppress(FileNotFoundError):
                total += file.stat().st_size
        return total

    def database(self, catalog: str, schema: str) -> str:
        """Return `catalog.schema` as this machine's Spark names it.

        A laptop's Spark has one catalog, so the name of any other becomes part of the database's name.
        """
        if self.on_cluster:
            return f"{catalog}.{schema}"
        own = catalog in ("spark_catalog", "hive_metastore")
        return f"spark_catalog.{schema if own else f'{catalog}__{schema}'}"


def this_machine(environ: Mapping[str, str]) -> Machine:
    """Return the machine that the environment variables describe."""
    return Machine(
        on_cluster=_CLUSTER_VARIABLE in environ,
        lake=Path(environ.get(LAKE_VARIABLE) or ".lake").expanduser().resolve(),
        # Its runtime's version is that of a client, such as client.4.9.
        serverless=environ.get(_CLUSTER_VARIABLE, "").startswith("client."),
    )


def git_commit() -> str:
    """Return the commit of the running code: that of its checkout, else the one in the wheel's version.

    `unknown` when there is neither.
    """
    package = Path(__file__).resolve().parent.parent
    if (package.parent / ".git").exists() and shutil.which("git"):
        found = subprocess.run(
            ["git", "-C", str(package.parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            return found.stdout.strip()
    try:
        version = importlib.metadata.version("booking_mlops")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    match = re.search(r"\.g([0-9a-f]{7,40})$", version)
    return match.group(1) if match else "unknown"


def shared_folder() -> Path:
    """Return the folder for what is made once for all programs of this Python environment."""
    return Path(sys.prefix) / "share" / "booking_mlops"
