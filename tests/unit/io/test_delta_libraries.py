from __future__ import annotations

import os
import sys
from pathlib import Path

import pyspark
import pytest

from booking_mlops.errors import RuntimeSetupError
from booking_mlops.io.delta_libraries import delta_artifact, delta_jars, scala_version
from booking_mlops.io.java import find_java


@pytest.mark.parametrize(
    ("delta", "spark", "scala", "artifact"),
    [
        ("3.2.0", "3.5.0", "2.12", "delta-spark_2.12"),
        ("4.0.0", "4.0.0", "2.13", "delta-spark_2.13"),
        ("4.0.1", "4.0.2", "2.13", "delta-spark_2.13"),
        ("4.1.0", "4.1.0", "2.13", "delta-spark_4.1_2.13"),
        ("4.4.0", "4.2.0", "2.13", "delta-spark_4.2_2.13"),
    ],
)
def test_deltas_library_is_named_after_scala_and_then_after_spark_too(
    delta: str, spark: str, scala: str, artifact: str
) -> None:
    assert delta_artifact(delta, spark, scala) == artifact


def test_the_scala_is_that_of_the_installed_spark(tmp_path: Path) -> None:
    assert scala_version(Path(pyspark.__file__).parent) in ("2.12", "2.13")
    with pytest.raises(RuntimeSetupError, match="install pyspark again"):
        scala_version(tmp_path)


@pytest.mark.parametrize("maven", [{"BOOKING_MAVEN_URL": "http://127.0.0.1:9/maven"}, {}], ids=["variable", "resolver"])
def test_libraries_that_cannot_be_had_say_which_setting_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, maven: dict[str, str]
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    # Java's own settings: nothing answers there.
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9")
    java = find_java(os.environ, pyspark.__version__, tmp_path)
    with pytest.raises(RuntimeSetupError, match="BOOKING_MAVEN_URL"):
        delta_jars({**os.environ, **maven}, java)
    assert list(tmp_path.rglob("*.jar")) == []
    assert list(tmp_path.rglob("nothing.py")) == []
