"""How fast the tasks are: ratios of things measured side by side, in one run, on this machine.

    python -m devtools.bench                      36,285 and 1,000,000 synthetic bookings
    python -m devtools.bench --rows 10000000      another size instead of the million
    python -m devtools.bench --only scoring

Each measurement is a process of its own; memory is the most that process and its children held at once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
TASKS, ENV = ROOT / "conf" / "tasks", ROOT / "conf" / "envs" / "local.yml"
SMALL = 36_285
REPEATS, ROUNDS = 5, 2
LARGE = 2_000_000
"""Rows above which everything is measured half as often."""
FOREST_ROWS = 200_000
PROGRAM = Path(sys.executable).with_name("booking-mlops")


@dataclass(frozen=True)
class Given:
    """Arguments of a measurement: the file, how often to repeat, and the first day on which nothing was scored yet."""

    csv: str
    repeats: int
    day: int


FIRST_DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""The day that the synthetic bookings stand for: some of them are open."""


def clock(day: int) -> Callable[[], datetime]:
    """Return a clock that stands still on a day; a day that was scored is not scored again."""
    return lambda: FIRST_DAY + timedelta(days=day)


def timed(action: Callable[[], object]) -> float:
    """Return the seconds an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def best(action: Callable[[int], object], repeats: int) -> float:
    """Return the seconds of the quickest repetition: the one the machine disturbed least."""
    return min(timed(lambda number=number: action(number)) for number in range(repeats))  # type: ignore[misc]


def task(name: str, *settings: str, day: int = 0) -> Any:
    """Return a task of the environment `local`, with a clock that stands still."""
    from booking_mlops.runner import make_task
    from booking_mlops.tasks import task_type

    key = name.replace("-", "_")
    return make_task(task_type(key), TASKS / f"{key}.yml", ENV, settings, clock=clock(day))


def warm(name: str, *settings: str) -> Any:
    """Return a task whose Spark session has started, so that the time measured is the task's own."""
    made = task(name, *settings)
    _ = made.session.spark
    return made


def ingest(given: Given) -> dict[str, float]:
    """Run setup-data for the first time."""
    return {"setup-data": timed(warm("setup-data", f"source_csv={given.csv!r}").run)}


def copy(session: Any, given: Given, number: int) -> None:
    """Copy the file to a Delta table as it is, every column as text."""
    rows = session.read.option("header", True).csv(Path(given.csv).as_uri()).toDF(*[f"c{i}" for i in range(17)])
    rows.write.format("delta").mode("overwrite").saveAsTable(f"spark_catalog.booking_local.copy_{number}")


def first_copy(given: Given) -> dict[str, float]:
    """Make a bare copy as the first thing in a session, as setup-data is measured."""
    one = warm("setup-data", f"source_csv={given.csv!r}")
    return {"bare copy": timed(lambda: copy(one.session.spark, given, 0))}


def first_features(_: Given) -> dict[str, float]:
    """Run feature-table-creation for the first time."""
    return {"feature-table-creation, first": timed(warm("feature-table-creation").run)}


def train(_: Given) -> dict[str, float]:
    """Run model-train on a sample; its model is the champion of what follows."""
    one = warm("model-train", "max_training_rows=100000", "comparison.bootstrap_samples=200")
    return {"model-train": timed(one.run)}


def plain_session() -> Any:
    """Return a Spark session set up as Delta's own guide says, otherwise with its defaults."""
    import pyspark
    from pyspark.sql import SparkSession

    from booking_mlops.io.delta_libraries import delta_jars
    from booking_mlops.io.java import find_java
    from booking_mlops.io.machine import shared_folder, this_machine

    java = find_java(os.environ, pyspark.__version__, shared_folder())
    if java.home:
        os.environ["JAVA_HOME"] = java.home
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[*]")
    for key, value in {
        "spark.driver.extraClassPath": os.pathsep.join(map(str, delta_jars(os.environ, java))),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": str(this_machine(os.environ).warehouse),
    }.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def start(_: Given) -> dict[str, float]:
    """Start Spark and write one Delta table."""
    plain_session().range(1000).write.format("delta").mode("overwrite").saveAsTable("started")
    return {}


def features_folder(one: Any) -> Path:
    """Return where the environment `local` keeps its feature table."""
    folder: Path = one.session.machine.warehouse / "booking_local.db" / "features"
    return folder


def features(given: Given) -> dict[str, float]:
    """Run feature-table-creation, and a bare copy of the same file to Delta."""
    from booking_mlops.core.bookings.tables import FEATURE_TABLE, LABELS

    one = task("feature-table-creation")
    session, tables = one.session.spark, one.session.tables

    def create(_: int) -> None:
        for table in (FEATURE_TABLE.name, LABELS.name):
            # Otherwise there would be nothing to do.
            first = session.sql(f"SELECT min(booking_id) FROM {tables.full_name(table)}").first()[0]
            session.sql(f"DELETE FROM {tables.full_name(table)} WHERE booking_id = '{first}'")
        start = time.perf_counter()
        task("feature-table-creation").run()
        spent.append(time.perf_counter() - start)

    spent: list[float] = []
    copy(session, given, given.repeats)
    copied = best(lambda number: copy(session, given, number), given.repeats)
    for number in range(given.repeats):
        create(number)
    return {"bare copy": copied, "feature-table-creation": min(spent)}


def scoring(given: Given) -> dict[str, float]:
    """Run model-inference-batch over all bookings, drift check included: features from Delta, scores to Delta."""

    def score(number: int) -> None:
        task("model-inference-batch", "scope=all", day=given.day + number).run()

    return {"model-inference-batch": best(score, given.repeats)}


def open_scoring(given: Given) -> dict[str, float]:
    """Run model-inference-batch over the open bookings, drift check included."""
    rows = []

    def score(number: int) -> None:
        # On other days than those on which all were scored.
        rows.append(task("model-inference-batch", "scope=open", day=given.day + number + 20).run().rows)

    return {"model-inference-batch, open only": best(score, given.repeats), "open": rows[0]}


def peer(given: Given) -> dict[str, float]:
    """Run mlflow.pyfunc.spark_udf over the whole table, with Spark's defaults."""
    import mlflow
    from pyspark.sql import functions as F

    one = task("model-inference-batch")
    champion = one.session.registry.require_champion()
    names = list(one.session.registry.input_schema(champion))
    session = plain_session()
    features = session.read.format("delta").load(str(features_folder(one)))

    def score(number: int) -> None:
        predict = mlflow.pyfunc.spark_udf(session, champion.uri, result_type="array<double>", env_manager="local")
        scored = features.withColumn("both", predict(F.struct(*names)))
        rows = scored.select("booking_id", F.col("both")[1].alias("cancellation_probability"))
        rows.write.format("delta").mode("overwrite").saveAsTable(f"peer_{number}")

    return {"spark_udf": best(score, given.repeats)}


def _predict(model: Any, part: Any, barrier: Any, repeats: int) -> None:
    for _ in range(repeats):
        barrier.wait()
        model.predict_proba(part)
        barrier.wait()


def champion_and_features() -> tuple[Any, list[str], Any]:
    """Return the champion, its inputs' names, and the feature table's columns of them, in Arrow."""
    import deltalake
    import pyarrow.dataset

    one = task("model-inference-batch")
    champion = one.session.registry.require_champion()
    names = list(one.session.registry.input_schema(champion))
    # Without Spark, whose driver is not made to hold a whole table.
    files = deltalake.DeltaTable(features_folder(one)).file_uris()
    return one.session.registry.load(champion), names, pyarrow.dataset.dataset(files).to_table(columns=names)


def limit(given: Given) -> dict[str, float]:
    """Run the fitted pipeline's own predict_proba, in one process per core, over data already in memory."""
    from booking_mlops.core.model.scoring import as_model_input

    model, names, rows = champion_and_features()
    cores = os.cpu_count() or 1
    size = -(-len(rows) // cores)
    parts = [as_model_input(rows.slice(number * size, size).to_pandas(), names) for number in range(cores)]
    del rows
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(cores + 1)
    workers = [context.Process(target=_predict, args=(model, part, barrier, given.repeats)) for part in parts]
    for worker in workers:
        worker.start()
    spent = []
    for _ in range(given.repeats):
        barrier.wait()
        spent.append(timed(barrier.wait))
    for worker in workers:
        worker.join()
    return {"limit": min(spent)}


def forest(given: Given) -> dict[str, float]:
    """Evaluate the champion's forest on one core, as scikit-learn does and in the two ways of ours."""
    from booking_mlops.core.model.compiled_forest import compiled_forest
    from booking_mlops.core.model.scoring import as_model_input, cancellation_probability, from_arrow

    model, names, table = champion_and_features()
    rows = from_arrow(table.slice(0, FOREST_ROWS), names)
    inputs, compiled = as_model_input(rows, names), compiled_forest(model)
    cancellation_probability(compiled, rows.head())
    return {
        "forest: predict_proba": best(lambda _: model.predict_proba(inputs), given.repeats),
        "forest: on the driver": best(lambda _: cancellation_probability(model, rows), given.repeats),
        "forest: on a worker": best(lambda _: cancellation_probability(compiled, rows), given.repeats),
        "rows": len(rows),
    }


MEASURES = {
    one.__name__: one
    for one in (start, ingest, first_copy, first_features, train, features, scoring, open_scoring, peer, limit, forest)
}


def held(process: psutil.Process) -> int:
    """Return the bytes that a process and its children hold; shared pages count once for each.

    A child younger than a second is left out: until it runs its own program it is its parent once more.
    """
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            if one == process or time.time() - one.create_time() > 1:
                total += one.memory_info().rss
    return total


def measured(command: list[str], lake: Path) -> tuple[float, float, str]:
    """Return the seconds a program takes, the most GiB it held at once, and the last line it printed.

    Exits when it fails.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "BOOKING_LAKE": str(lake)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    most, stop = [0], threading.Event()

    def watch() -> None:
        known = psutil.Process(process.pid)
        while not stop.wait(0.2):
            try:
                most[0] = max(most[0], held(known))
            except psutil.Error:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - begun
    stop.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"error: {' '.join(command)}\n{err[-3000:]}")
    return seconds, most[0] / 2**30, (out.strip().splitlines() or [""])[-1]


def child(name: str, given: Given, lake: Path) -> tuple[dict[str, float], float, float]:
    """Measure in a process of its own; return what it measured, its seconds in all, and the most GiB it held."""
    print(f"… {name}", file=sys.stderr, flush=True)
    seconds, memory, last = measured(
        [sys.executable, __file__, "--child", name, "--given", json.dumps(asdict(given))], lake
    )
    return json.loads(last), seconds, memory


def row(name: str, seconds: float, rows: int, memory: float | None, ratio: str = "") -> None:
    """Print one line of the table."""
    rate = f"{rows / seconds:>12,.0f} rows/s"
    print(f"  {name:<34} {seconds:>8.1f} s {rate} {f'{memory:.1f} GiB' if memory else '':>9}  {ratio}", flush=True)


def make_csv(rows: int, target: Path, *settings: str) -> int:
    """Write a file of about so many synthetic bookings; return how many there are."""
    command = [str(PROGRAM), "synthetic-data", "--rows", str(rows), "--out", str(target), "--force"]
    subprocess.run([*command, *settings], check=True, capture_output=True)
    with target.open("rb") as file:
        return sum(1 for _ in file) - 1


def bench(rows: int, only: str | None, work: Path) -> None:
    """Print the table for one size."""
    csv, lake = work / f"{rows}.csv", work / f"lake-{rows}"
    repeats, rounds = (REPEATS, ROUNDS) if rows <= LARGE else (-(-REPEATS // 2), 1)
    rows = make_csv(rows, csv, "--as-of", FIRST_DAY.date().isoformat())
    print(f"\n{rows:,} bookings", flush=True)
    given = Given(str(csv), repeats, 0)
    found, _, memory = child("ingest", given, lake)
    copied, _, _ = child("first_copy", given, lake)
    row("bare copy, CSV to Delta, first", copied["bare copy"], rows, None)
    ratio = found["setup-data"] / copied["bare copy"]
    row("setup-data", found["setup-data"], rows, memory, f"{ratio:.2f} × the first bare copy")
    for measure in ("first_features", "train"):
        found, _, memory = child(measure, given, lake)
        for name, seconds in found.items():
            row(name, seconds, rows, memory)
    if only in (None, "features"):
        found, _, memory = child("features", given, lake)
        row("bare copy, CSV to Delta", found["bare copy"], rows, None)
        ratio = found["feature-table-creation"] / found["bare copy"]
        row("feature-table-creation", found["feature-table-creation"], rows, memory, f"{ratio:.2f} × the bare copy")
    if only in (None, "scoring"):
        fastest: dict[str, float] = {}
        most: dict[str, float] = {}
        # In turns: a machine that is slow for a while is slow for all of them.
        for number in range(rounds):
            for name in ("limit", "scoring", "open_scoring", "peer"):
                found, _, memory = child(name, Given(str(csv), repeats, repeats * number), lake)
                for key, seconds in found.items():
                    fastest[key] = min(seconds, fastest.get(key, seconds))
                    most[key] = max(memory, most.get(key, memory))
        best_possible, theirs = fastest["limit"], fastest["spark_udf"]
        row("limit: predict_proba in memory", best_possible, rows, most["limit"])
        row("peer: mlflow spark_udf", theirs, rows, most["spark_udf"])
        ours = fastest["model-inference-batch"]
        ratios = f"{best_possible / ours:.2f} of the limit, {theirs / ours:.1f} × the peer"
        row("model-inference-batch", ours, rows, most["model-inference-batch"], ratios)
        name = "model-inference-batch, open only"
        ratios = f"{ours / fastest[name]:.1f} × as fast as all"
        row(name, fastest[name], int(fastest["open"]), most[name], ratios)
        found, _, _ = child("forest", given, lake)
        scored, plain = int(found.pop("rows")), found["forest: predict_proba"]
        for name, seconds in found.items():
            row(f"{name}, one core", seconds, scored, None, f"{plain / seconds:.1f} × predict_proba's speed")


def whole_run(work: Path) -> None:
    """Measure the whole local run against Spark's own start."""
    csv = work / f"{SMALL}.csv"
    starts, runs = [], []
    for number in range(3):
        _, seconds, _ = child("start", Given(str(csv), 1, 0), work / f"start-{number}")
        starts.append(seconds)
        print("… run", file=sys.stderr, flush=True)
        command = [str(PROGRAM), "run", "--booking-csv", str(csv)]
        seconds, memory, _ = measured(command, work / f"run-{number}")
        runs.append((seconds, memory))
    print(f"\nthe whole local run, {SMALL:,} bookings")
    row("start Spark, write one table", min(starts), 1000, None)
    seconds, memory = min(runs)
    row("booking-mlops run", seconds, SMALL, memory, f"{seconds / min(starts):.1f} × Spark's start")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="the larger size; default: 1000000")
    parser.add_argument("--only", choices=["features", "scoring", "run"], help="default: everything")
    parser.add_argument("--child", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--given", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(MEASURES[arguments.child](Given(**json.loads(arguments.given)))))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        work = Path(folder)
        free = shutil.disk_usage(work).free
        if free < arguments.rows * 2_000:
            sys.exit(
                f"error: {arguments.rows:,} rows need about {arguments.rows * 2_000 / 2**30:.0f} GiB in {work.parent}"
            )
        if arguments.only in (None, "run"):
            make_csv(SMALL, work / f"{SMALL}.csv")
            whole_run(work)
        if arguments.only != "run":
            for rows in sorted({SMALL, arguments.rows}):
                bench(rows, arguments.only, work)


if __name__ == "__main__":
    main()
