from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from booking_mlops.io import machine as machine_module
from booking_mlops.io.machine import Machine, git_commit, this_machine


def test_the_lake_and_the_cluster_are_read_from_the_environment(tmp_path: Path) -> None:
    laptop = this_machine({"BOOKING_LAKE": str(tmp_path)})
    assert (laptop.on_cluster, laptop.lake) == (False, tmp_path)
    assert this_machine({}).lake == Path(".lake").resolve()
    cluster = this_machine({"DATABRICKS_RUNTIME_VERSION": "15.4"})
    assert (cluster.on_cluster, cluster.serverless) == (True, False)
    serverless = this_machine({"DATABRICKS_RUNTIME_VERSION": "client.4.9"})
    assert (serverless.on_cluster, serverless.serverless) == (True, True)


def test_the_size_of_the_tables_is_that_of_their_data(tmp_path: Path) -> None:
    machine = Machine(on_cluster=False, lake=tmp_path)
    assert machine.table_bytes() == 0
    for name, size in (
        ("one.db/a/part.parquet", 10),
        ("one.db/b/day=1/part.parquet", 5),
        ("one.db/a/_delta_log/0.json", 3),
    ):
        file = tmp_path / "warehouse" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
    assert machine.table_bytes() == 15


@pytest.mark.parametrize(
    ("on_cluster", "catalog", "expected"),
    [
        (True, "prod", "prod.booking"),
        (False, "spark_catalog", "spark_catalog.booking"),
        (False, "hive_metastore", "spark_catalog.booking"),
        (False, "prod", "spark_catalog.prod__booking"),
    ],
)
def test_a_laptop_has_one_catalog(on_cluster: bool, catalog: str, expected: str) -> None:
    assert Machine(on_cluster, Path()).database(catalog, "booking") == expected


def test_the_commit_is_the_checkouts_or_the_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert git_commit() == head
    monkeypatch.setattr(machine_module, "__file__", str(tmp_path / "booking_mlops" / "io" / "machine.py"))
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.1.0+b0123456789ab.gabcdef012345")
    assert git_commit() == "abcdef012345"
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.1.0")
    assert git_commit() == "unknown"
