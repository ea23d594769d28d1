"""What may happen to a table between and during writes."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.core.bookings.features import feature_select
from booking_mlops.core.bookings.tables import FEATURE_TABLE, PROMOTIONS
from booking_mlops.errors import DataQualityError, WriteFailed
from booking_mlops.io.concurrency import run_concurrently
from booking_mlops.io.machine import this_machine
from booking_mlops.io.spark import spark_session
from booking_mlops.io.tables import Tables
from booking_mlops.table import Column, Table
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from booking_mlops.tasks.setup_data import SetupData
from tests.conftest import HEADER, Environment, write_bookings
from tests.spark.conftest import FORTY, make_task, registry_of


def side_by_side(*tasks: Any) -> list[Any]:
    """Run the tasks at the same time. Returns their results, or what they raised."""
    ready, results = threading.Barrier(len(tasks)), [None] * len(tasks)

    def run(number: int) -> None:
        ready.wait()
        try:
            results[number] = tasks[number].run()
        except Exception as error:  # noqa: BLE001 (looked at by the test)
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    return results


def test_two_scorings_at_once_leave_each_booking_scored_once(spark: Any, good: Environment) -> None:
    unchecked = "drift.policy=skip"
    results = side_by_side(*[make_task(ModelInferenceBatch, spark, good, unchecked, day=20) for _ in range(2)])
    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) < 2, failed
    assert all(isinstance(error, WriteFailed) and "run this one again" in str(error) for error in failed), failed
    scored = spark.table(good.table("predictions")).where("scored_on = DATE'2026-03-20'")
    assert (
        scored.count() == scored.select("booking_id").distinct().count() == spark.table(good.table("features")).count()
    )
    assert not make_task(ModelInferenceBatch, spark, good, unchecked, day=20).run().written


def test_two_first_trainings_at_once_end_with_one_champion_and_the_history_says_which(
    spark: Any, featured: Environment
) -> None:
    registry_of(featured).experiment_id()
    make_task(ModelTrain, spark, featured).session.tables.ensure(PROMOTIONS)
    tasks = [make_task(ModelTrain, spark, featured, *FORTY, f"model.seed={seed}") for seed in (1, 2)]
    # MLflow's active run belongs to a process: recording is one at a time, as it is between two processes' runs.
    lock = threading.Lock()
    for task in tasks:
        record = task._record
        task._record = lambda *given, record=record: _locked(lock, record, *given)
    results = side_by_side(*tasks)
    assert not [result for result in results if isinstance(result, Exception)], results
    decided = spark.table(featured.table("promotions")).toPandas()
    assert sorted(decided["challenger_version"]) == [1, 2]
    champion = registry_of(featured).require_champion().number
    outcomes = dict(zip(decided["challenger_version"], decided["decision"], strict=True))
    assert outcomes[champion] == "promoted"
    assert registry_of(featured).require_champion().number in (1, 2)


def _locked(lock: threading.Lock, record: Any, *given: Any) -> Any:
    with lock:
        return record(*given)


def test_a_challenger_that_was_compared_with_yesterdays_champion_is_not_promoted(
    spark: Any, featured: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = make_task(ModelTrain, spark, featured, *FORTY)
    record = slow._record

    def overtaken(*given: Any) -> Any:
        assert make_task(ModelTrain, spark, featured, *FORTY, "model.seed=2").run().decision.promoted
        return record(*given)

    monkeypatch.setattr(slow, "_record", overtaken)
    result = slow.run()
    assert result.decision.outcome == "kept"
    assert "became champion while this one was trained" in result.decision.reason
    assert result.champion_version == registry_of(featured).require_champion().number == 1


def test_a_column_that_was_added_stays_and_one_that_was_lost_comes_back(spark: Any, featured: Environment) -> None:
    table = featured.table("features")
    spark.sql(f"ALTER TABLE {table} ADD COLUMN note STRING")
    spark.sql(f"DELETE FROM {featured.table('bookings')} WHERE lead_time > 300")
    assert make_task(FeatureTableCreation, spark, featured).run().written
    assert spark.table(table).columns == [*FEATURE_TABLE.column_names, "note"]
    spark.sql(
        f"ALTER TABLE {table} SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name', "
        "'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5')"
    )
    spark.sql(f"ALTER TABLE {table} DROP COLUMNS (lead_time, note)")
    assert make_task(FeatureTableCreation, spark, featured).run().written
    assert set(spark.table(table).columns) == set(FEATURE_TABLE.column_names)
    assert spark.table(table).where("lead_time IS NULL").count() == 0


def test_a_write_that_fails_is_one_line_and_the_table_is_as_it_was(
    spark: Any, featured: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = spark.table(featured.table("features")).count()
    spark.sql(f"DELETE FROM {featured.table('bookings')} WHERE lead_time > 300")
    task = make_task(FeatureTableCreation, spark, featured)
    monkeypatch.setattr(
        "booking_mlops.tasks.feature_table_creation.feature_select",
        lambda: [
            "CAST(raise_error('No space left on device') AS BIGINT) AS feature_key" if "feature_key" in sql else sql
            for sql in feature_select()
        ],
    )
    with pytest.raises(WriteFailed, match=r"writing .*features: No space left on device; the table is as it was"):
        task.run()
    assert spark.table(featured.table("features")).count() == before


@pytest.mark.parametrize("kind", ["latin-1", "cut gzip"])
def test_a_damaged_file_is_refused_and_the_tables_are_as_they_were(
    kind: str, spark: Any, environment: Environment, tmp_path: Path
) -> None:
    import gzip

    good = tmp_path / "good.csv"
    lines = write_bookings(good, 300)
    make_task(SetupData, spark, environment, f"source_csv={good}").run()
    before = spark.table(environment.table("bookings")).count()
    text = "\n".join([HEADER, *(line.replace("Online", "Onlïne") for line in lines[1:])])
    bad = tmp_path / ("bad.csv.gz" if kind == "cut gzip" else "bad.csv")
    bad.write_bytes(gzip.compress(text.encode())[:-400] if kind == "cut gzip" else text.encode("latin-1"))
    message = "can't be read" if kind == "cut gzip" else "not UTF-8 text: set encoding, such as latin-1"
    with pytest.raises(DataQualityError, match=message):
        make_task(SetupData, spark, environment, f"source_csv={bad}").run()
    assert spark.table(environment.table("bookings")).count() == before


def test_a_damaged_table_is_not_taken_for_a_damaged_file(
    spark: Any, environment: Environment, tmp_path: Path, lake: Path
) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    lines = write_bookings(first, 300)
    second.write_text("\n".join([lines[0], *(line.replace("Online", "Offline") for line in lines[1:20])]) + "\n")
    make_task(SetupData, spark, environment, f"source_csv={first}").run()
    for file in (lake / "warehouse" / f"{environment.schema}.db" / "bookings").glob("*.parquet"):
        file.unlink()
    message = rf"{environment.schema}\.bookings: can't be read to its end: .*does not exist; nothing was written"
    with pytest.raises(DataQualityError, match=message):
        make_task(SetupData, spark, environment, f"source_csv={second}").run()


def test_a_table_goes_on_after_delta_has_made_a_checkpoint(spark: Any, environment: Environment, lake: Path) -> None:
    """Delta makes one every ten commits. With a Spark that it was not made for, each commit from then on fails."""
    numbers = Table("numbers", "Counted", (Column("number", "BIGINT", "One for each commit"),), key=("number",))
    tables = Tables(spark, f"spark_catalog.{environment.schema}", as_of=date(2026, 3, 1))
    tables.ensure(numbers)
    for number in range(12):
        tables.append_new("numbers", [{"number": number}], "number")
    assert tables.read("numbers").count() == 12
    log = lake / "warehouse" / f"{environment.schema}.db" / "numbers" / "_delta_log"
    assert list(log.glob("*.checkpoint*"))


def test_of_two_writes_at_once_the_failure_goes_up_when_both_have_ended() -> None:
    ended: list[str] = []

    def fail() -> None:
        raise WriteFailed("the first")

    def take_long() -> None:
        time.sleep(0.2)
        ended.append("the second")

    with pytest.raises(WriteFailed, match="the first"):
        run_concurrently(fail, take_long)
    assert ended == ["the second"]
    assert run_concurrently(lambda: 1, lambda: 2) == (1, 2)


def test_a_session_leaves_nothing_to_import_under_the_interpreters_lock(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise `run`, which imports beside Spark's work, now and then never ends.
    monkeypatch.delitem(sys.modules, "distutils.version", raising=False)
    assert spark_session(this_machine(os.environ), {}, os.environ, lambda: 0) is spark
    assert "distutils.version" in sys.modules
