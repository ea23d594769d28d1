"""The program on Spark Connect, which has no Spark context, no RDD and no JVM in this process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import deltalake

from tests.conftest import ROOT
from tests.connect_server import connect_server
from tests.e2e.test_pipeline import PROGRAM, environment


def test_the_whole_pipeline_runs_on_spark_connect(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    ended = "setup_data.synthetic_open_bookings=false"
    small = ["setup_data.synthetic_rows=12000", ended, "model_train.model.n_estimators=20"]
    settings = [word for setting in small for word in ("--set", setting)]
    with connect_server(lake, tmp_path / "server.log") as address:
        done = subprocess.run(
            [str(PROGRAM), "run", *settings],
            cwd=ROOT,
            env={**environment(lake, java=False), "SPARK_REMOTE": address},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    tables = lake / "warehouse" / "booking_local.db"
    counts = [
        deltalake.DeltaTable(str(tables / name)).to_pyarrow_table().num_rows for name in ("bookings", "predictions")
    ]
    assert counts[0] == counts[1] > 10000
