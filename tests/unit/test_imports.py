from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_importing_every_module_has_no_side_effect(tmp_path: Path) -> None:
    program = (
        "import os, pkgutil, importlib, sys, booking_mlops\n"
        "os.environ.clear()\n"
        "for m in pkgutil.walk_packages(booking_mlops.__path__, 'booking_mlops.'): importlib.import_module(m.name)\n"
        "assert 'pyspark' not in sys.modules and 'mlflow' not in sys.modules, 'imported on import'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
