"""The program as a user starts it: processes of their own, tables read back from disk by another library."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import deltalake
import mlflow
import pyarrow
import pyarrow.dataset
import pytest

from tests.conftest import ROOT
from tests.connect_server import connect_server

PROGRAM = Path(sys.executable).with_name("booking-mlops")
ROWS = 12_000
MODEL = "booking_cancellation_local"
ODD = "My Läke 100%"
# Few trees, since the program runs many times here and none of it is about the model.
SMALL = [
    *("--set", f"setup_data.made_rows={ROWS}", "--set", "setup_data.synthetic_open_bookings=false"),
    *("--set", "model_train.model.n_estimators=40", "--set", "model_train.comparison.bootstrap_samples=300"),
]


def environment(lake: Path, java: bool) -> dict[str, str]:
    environ = {**os.environ, "BOOKING_LAKE": str(lake)}
    if not java:
        environ.pop("JAVA_HOME", None)
        environ["PATH"] = _path_without_java(lake.parent / "bin")
    return environ


def run(lake: Path, *arguments: str, java: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *arguments], cwd=ROOT, env={**environment(lake, java), **environ}, capture_output=True,
        encoding="utf-8", timeout=400, check=False,
    )  # fmt: skip


def _path_without_java(folder: Path) -> str:
    """Only what Spark's launcher itself calls."""
    folder.mkdir(exist_ok=True)
    for name in (
        "bash",
        "sh",
        "dirname",
        "ps",
        "uname",
        "cat",
        "nice",
        "env",
        "ls",
        "rm",
        "mkdir",
        "chmod",
        "readlink",
    ):
        found = shutil.which(name)
        if found and not (folder / name).exists():
            (folder / name).symlink_to(found)
    return str(folder)


def table(lake: Path, name: str) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(lake / "warehouse" / "booking_local.db" / name)


def content(lake: Path, name: str) -> pyarrow.Table:
    """By the files that Delta's log names: deltalake's own reader wants a newer pyarrow than a runtime has."""
    files = table(lake, name).file_uris()
    return pyarrow.dataset.dataset(files, partitioning="hive").to_table() if files else pyarrow.table({})


def rows(lake: Path, name: str) -> int:
    return content(lake, name).num_rows


# What a table is of, without when and by which run: what two lakes must have in common.
SAME = {
    "bookings": None,
    "bookings_rejected": ["source_line", "reason", "raw_row", "source_fingerprint"],
    "features": None,
    "labels": None,
    "predictions": ["booking_id", "cancellation_probability", "prediction", "model_name", "features_version"],
}


def same(lake: Path, name: str) -> list[dict[str, Any]]:
    found = content(lake, name)
    columns = SAME[name] or found.column_names
    return found.select(columns).sort_by(columns[0]).to_pylist()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A lake after one run, and what the run said.

    It ran without the machine's Java, a home and a language, with odd names of folders; then the lake was moved.
    """
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    odd, temporary = lake.with_name(ODD), lake.with_name("other tmp")
    temporary.mkdir()
    done = run(odd, "run", *SMALL, java=False, HOME=str(lake.with_name("no home")), LC_ALL="C", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    odd.rename(lake)
    return lake, done


@pytest.mark.xdist_group("undisturbed")
def test_everything_runs_twice_without_the_machines_java_and_the_second_run_changes_nothing(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    lake, first = undisturbed
    for label in ("rows in", "ROC AUC", "promoted: first model to pass the gates", "predictions", "where to look"):
        assert label in first.stdout
    assert "no booking is open and arrives on" in first.stdout
    page = re.search(r"pages +(\S.*/report\.html)", first.stdout)
    assert page is not None
    assert Path(page[1].replace(ODD, lake.name)).is_file()
    counts = {name: rows(lake, name) for name in ("bookings", "bookings_rejected", "features", "labels", "predictions")}
    assert counts["bookings"] + counts["bookings_rejected"] == ROWS
    assert counts["bookings"] == counts["features"] == counts["labels"] == counts["predictions"]
    versions = {name: table(lake, name).version() for name in counts}

    second = run(lake, "run", *SMALL)
    assert second.returncode == 0, second.stderr
    assert "kept: a tie" in second.stdout
    assert {name: rows(lake, name) for name in counts} == counts
    scored = content(lake, "predictions")
    days = len(set(scored["scored_on"].to_pylist()))
    if days == 1:  # unless midnight passed between the runs
        assert {name: table(lake, name).version() for name in counts} == versions
    assert set(scored["model_version"].to_pylist()) == {1}
    assert len(set(scored["booking_id"].to_pylist())) == counts["bookings"]
    decided = content(lake, "promotions").sort_by("challenger_version")
    assert decided["decision"].to_pylist() == ["promoted", "kept"]
    auc = re.search(r"ROC AUC\s+(0\.\d+)", first.stdout)
    assert auc is not None
    assert 0.88 < float(auc[1]) < 0.95


@pytest.mark.xdist_group("undisturbed")
def test_spark_connect_and_compiled_queries_give_what_a_laptops_spark_does(
    tmp_path: Path, undisturbed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    pytest.importorskip("grpc", reason="Spark Connect's client is not installed")
    lake = tmp_path / "lake"
    # As on a cluster: no Spark context, RDD or JVM in this process, compiled queries, adaptive plans.
    with connect_server(lake, tmp_path / "server.log", small=False) as address:
        done = subprocess.run(
            [str(PROGRAM), "run", *SMALL],
            cwd=ROOT,
            env={**environment(lake, java=False), "SPARK_REMOTE": address},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    for name in SAME:
        assert same(lake, name) == same(undisturbed[0], name), name


@contextmanager
def killed_in_the_end(lake: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program, started; it is killed with its JVM and its workers when the block is left."""
    with subprocess.Popen(
        [str(PROGRAM), *arguments],
        cwd=ROOT,
        env={**os.environ, "BOOKING_LAKE": str(lake)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def killed_at(lake: Path, marker: str, *arguments: str) -> None:
    """Kill the program shortly after it has logged `marker`."""
    with killed_in_the_end(lake, *arguments) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if marker in line:
                break
        else:
            pytest.fail(f"'{marker}' was never reached")
        time.sleep(0.4)


def killed_after_commit(lake: Path, name: str, *arguments: str) -> None:
    """Kill the program in the moment a commit to table `name` is there, and nothing that comes after it."""
    log = lake / "warehouse" / "booking_local.db" / name / "_delta_log"
    before = len(list(log.glob("*.json")))
    with killed_in_the_end(lake, *arguments) as process:
        while len(list(log.glob("*.json"))) == before:
            assert process.poll() is None, f"{name} was never written"
            time.sleep(0.005)


def champion(lake: Path) -> int:
    client = mlflow.MlflowClient(f"sqlite:///{lake / 'mlflow.db'}")
    return int(client.get_model_version_by_alias(MODEL, "champion").version)


@pytest.mark.xdist_group("undisturbed")
def test_a_run_killed_at_any_moment_ends_where_an_undisturbed_one_does(
    tmp_path: Path, undisturbed: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    lake = tmp_path / "lake"
    # Between two tables of one task, while a table is written, while a model is trained, between the decision and the
    # registry, and while scores are written.
    markers = (
        "created spark_catalog.booking_local.bookings_rejected",
        "writing features",
        "training on",
        "version 1: promoted",
        "scoring with",
    )
    for marker in markers:
        killed_at(lake, marker, "run", *SMALL)
    final = run(lake, "run", *SMALL)
    assert final.returncode == 0, final.stderr
    for name in SAME:
        assert same(lake, name) == same(undisturbed[0], name), name
    assert rows(lake, "bookings") + rows(lake, "bookings_rejected") == ROWS
    assert rows(lake, "predictions") == rows(lake, "features") == rows(lake, "labels") == rows(lake, "bookings")
    (scored_by,) = set(content(lake, "predictions")["model_version"].to_pylist())
    # A version that was registered before its process died stays, without a decision; it is not the champion.
    decided = content(lake, "promotions").to_pylist()
    assert len({one["decision_id"] for one in decided}) == len(decided)
    promoted = [one["challenger_version"] for one in decided if one["decision"] == "promoted"]
    assert promoted == [scored_by] == [champion(lake)]

    killed_at(lake, "created spark_catalog.booking_local.monitoring", "model-monitor")
    watched = run(lake, "model-monitor")
    assert watched.returncode == 0, watched.stderr
    checks = content(lake, "monitoring").select(["checked_on", "check_name", "subject"]).to_pylist()
    # One for each of the 14 features, the classifier, the scores, the bad lines and the live metrics: nothing is new.
    assert len({tuple(check.values()) for check in checks}) == len(checks) == 18

    other = next(number for number in (1, 2) if number != scored_by)
    rollback = ["model", "rollback", "--to", str(other), "--reason", "killed"]
    killed_after_commit(lake, "promotions", *rollback)
    assert champion(lake) == scored_by  # recorded, not carried out
    finished = run(lake, *rollback)
    assert finished.returncode == 0, finished.stderr
    assert champion(lake) == other
    last = content(lake, "promotions").sort_by("decided_at").to_pylist()
    assert [one["decision"] for one in last[len(decided) :]] == ["rolled_back"]


def test_no_task_brings_to_the_driver_what_grows_with_the_table(tmp_path: Path) -> None:
    # 100,000 bookings are about 10 MB as rows; no job of any task may return more than 3.
    lake, csv = tmp_path / "lake", tmp_path / "Booking.csv"
    assert run(lake, "make-data", "--rows", "100000", "--out", str(csv)).returncode == 0
    small = ["--set", "env.spark_conf={spark.driver.maxResultSize: 3m}", "--set", "model_train.max_training_rows=12000",
             "--set", "model_inference_batch.driver_rows=12000"]  # fmt: skip
    done = run(lake, "run", "--booking-csv", str(csv), *small, "--set", "model_train.max_reference_rows=12000")
    assert done.returncode == 0, done.stderr
    assert rows(lake, "predictions") == rows(lake, "bookings") > 99_000
    greedy = run(lake, "model-train", "--set", "env.spark_conf={spark.driver.maxResultSize: 3m}")
    assert greedy.returncode != 0  # the limit is there: all rows at once do not pass
    assert "maxResultSize" in greedy.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process")
def test_a_disk_that_is_full_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    lake, csv = tmp_path / "lake", tmp_path / "Booking.csv"
    assert run(lake, "make-data", "--rows", str(ROWS), "--out", str(csv)).returncode == 0
    full = ["bash", "-c", 'ulimit -f 64; exec "$@"', "_", str(PROGRAM), "setup-data", "--set", f"source_csv={csv}"]
    done = subprocess.run(
        full, cwd=ROOT, env={**os.environ, "BOOKING_LAKE": str(lake)}, capture_output=True, text=True, timeout=400,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1], done.stderr
    again = run(lake, "setup-data", "--set", f"source_csv={csv}")
    assert again.returncode == 0, again.stderr
    assert rows(lake, "bookings") + rows(lake, "bookings_rejected") == ROWS


def test_a_failure_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = run(tmp_path / "lake", "run", "--booking-csv", str(tmp_path / "typo.csv"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: {tmp_path}/typo.csv: no such file; put Booking.csv there or change source_csv"
    )
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "lake").rglob("*.parquet"))


STARTS_SPARK = """
import json, os, sys
sys.prefix = sys.argv[1]
from booking_mlops.io.machine import this_machine
from booking_mlops.io.spark import spark_session
session = spark_session(this_machine(os.environ), json.loads(sys.argv[2]), os.environ, lambda: 0, archive_classes=True)
java = session.sparkContext._gateway.proc.pid
print(session.range(1000).count(), "/classes-" in open(f"/proc/{java}/maps").read())
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at what Java has mapped")
@pytest.mark.parametrize("java", ["the machine's", "the package's"])
def test_java_starts_with_the_classes_it_kept_and_makes_up_for_those_that_are_spoilt(tmp_path: Path, java: str) -> None:
    share = tmp_path / "share" / "booking_mlops"
    shutil.copytree(Path(sys.prefix) / "share" / "booking_mlops" / "jars", share / "jars")

    def start(**conf: str) -> str:
        # Until Java, which holds the same pipes, has ended too.
        done = subprocess.run(
            [sys.executable, "-c", STARTS_SPARK, str(tmp_path), json.dumps(conf)],
            cwd=ROOT, env=environment(tmp_path / "lake", java=java == "the machine's"), capture_output=True, text=True,
            timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    assert start() == "1000 False"
    assert start() == "1000 True"
    if java == "the machine's":
        return
    (archive,) = share.glob("classes-*.jsa")
    cut = archive.read_bytes()[: archive.stat().st_size // 2]
    archive.unlink()
    archive.write_bytes(cut)
    # So much memory wants objects of another layout, for which there is no archive to build on.
    assert start(**{"spark.driver.memory": "40g"}) == "1000 False"
    # The next one would wait for it otherwise.
    for part in share.glob("classes-*.part"):
        part.unlink()
    assert start() == "1000 False"
    assert start() == "1000 True"
    assert len(list(share.glob("classes-*"))) == 1
