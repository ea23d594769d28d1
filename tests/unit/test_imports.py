from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import booking_mlops


def test_importing_every_module_has_no_side_effect(tmp_path: Path) -> None:
    program = (
        "import os, pkgutil, importlib, sys, booking_mlops\n"
        "os.environ.clear()\n"
        "for m in pkgutil.walk_packages(booking_mlops.__path__, 'booking_mlops.'): importlib.import_module(m.name)\n"
        "assert 'pyspark' not in sys.modules and 'mlflow' not in sys.modules, 'imported on import'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_reaches_behind_the_spark_session() -> None:
    """Spark Connect has no Spark context, no RDD and no JVM; nor have standard access mode and serverless compute."""
    behind = {"sparkContext", "_sc", "_jsc", "_jvm", "_jsparkSession", "_jdf", "rdd", "SparkContext"}
    found = []
    for file in sorted(Path(booking_mlops.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
            if name in behind:
                found.append(f"{file.name}:{node.lineno}: {name}")
    assert found == []
