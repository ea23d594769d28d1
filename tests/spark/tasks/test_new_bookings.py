"""Files that bring what is new or has changed, and files that replace everything."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.errors import DataQualityError, WriteFailed
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.setup_data import SetupData
from tests.conftest import HEADER, Environment, write_bookings
from tests.spark.conftest import make_task

pytestmark = pytest.mark.usefixtures("spark")
Ingest = Callable[..., Any]


@pytest.fixture
def ingest(spark: Any, environment: Environment, tmp_path: Path) -> Ingest:
    """Bring lines below the header into the lake, with the settings given; the result of `setup-data`."""

    def call(lines: list[str], *settings: str) -> Any:
        csv = tmp_path / "Booking.csv"
        csv.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
        return make_task(SetupData, spark, environment, f"source_csv={csv}", *settings).run()

    return call


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of 120 bookings, without header."""
    return write_bookings(tmp_path_factory.mktemp("made") / "Booking.csv", 120)[1:]


def content(spark: Any, environment: Environment) -> dict[str, Any]:
    rows = spark.table(environment.table("bookings")).collect()
    assert len({row["booking_id"] for row in rows}) == len(rows)
    return {row["booking_id"]: row for row in rows}


def commits(spark: Any, environment: Environment) -> int:
    return int(spark.sql(f"DESCRIBE HISTORY {environment.table('bookings')}").count())


def test_a_file_adds_what_is_new_and_changes_what_differs_and_the_rest_stays(
    spark: Any, environment: Environment, ingest: Ingest, lines: list[str]
) -> None:
    day1 = [line.rsplit(",", 1)[0] + "," for line in lines[:60]]
    assert ingest(day1).merged is None
    before = content(spark, environment)
    number = commits(spark, environment)
    first = make_task(FeatureTableCreation, spark, environment).run()
    assert (first.rows, first.labelled) == (60, 0)

    result = ingest(lines[50:])
    assert result.merged == (60, 10)
    assert dict(result.summary())["bookings"].startswith("120 rows, version ")
    assert "60 new, 10 changed" in dict(result.summary())["bookings"]
    after = content(spark, environment)
    assert commits(spark, environment) == number + 1
    assert len(after) == 120
    assert {key: after[key] for key in list(before) if before[key] != after[key]}.keys() == {
        line.split(",")[0] for line in lines[50:60]
    }
    # Outcomes that arrive later turn open bookings into labelled ones.
    second = make_task(FeatureTableCreation, spark, environment).run()
    assert (second.rows, second.labelled) == (120, 70)


def test_the_same_file_again_writes_nothing_even_when_the_note_of_the_commit_is_gone(
    spark: Any, environment: Environment, ingest: Ingest, lines: list[str]
) -> None:
    ingest(lines[:60])
    assert ingest(lines[50:]).written
    number = commits(spark, environment)
    again = ingest(lines[50:])
    assert (again.written, again.merged, commits(spark, environment)) == (False, (0, 0), number)
    note = spark.sql(f"DESCRIBE HISTORY {environment.table('bookings')} LIMIT 1").first()["userMetadata"]
    assert json.loads(note)["as_of"] == "2026-03-01"
    before = content(spark, environment)
    spark.sql(f"ALTER TABLE {environment.table('bookings')} SET TBLPROPERTIES ('by' = 'somebody else')")
    assert ingest(lines[50:]).merged == (0, 0)
    assert content(spark, environment) == before
    # What the merge recorded is not recorded with the commits that follow it.
    spark.sql(f"ALTER TABLE {environment.table('bookings')} SET TBLPROPERTIES ('by' = 'nobody')")
    last = spark.sql(f"DESCRIBE HISTORY {environment.table('bookings')} LIMIT 1").first()
    assert last["userMetadata"] is None


def test_a_merge_that_fails_leaves_the_bookings_as_they_were(
    spark: Any, environment: Environment, ingest: Ingest, lines: list[str]
) -> None:
    ingest(lines[:60])
    before = content(spark, environment)
    spark.sql(f"ALTER TABLE {environment.table('bookings')} ADD CONSTRAINT few CHECK (booking_id < 'INN00100')")
    with pytest.raises(WriteFailed, match="the table is as it was"):
        ingest(lines[50:])
    assert content(spark, environment) == before


def test_a_snapshot_replaces_everything_unless_too_many_bookings_would_go(
    spark: Any, environment: Environment, ingest: Ingest, lines: list[str]
) -> None:
    ingest(lines)
    before = content(spark, environment)
    with pytest.raises(
        DataQualityError, match=r"20 of the 120 bookings are not in it \(16.7%, max_removed_share is 10.0%\)"
    ):
        ingest(lines[20:], "mode=snapshot")
    assert content(spark, environment) == before
    assert ingest(lines[20:], "mode=snapshot", "max_removed_share=0.2").merged is None
    assert content(spark, environment).keys() == {line.split(",")[0] for line in lines[20:]}
    assert not ingest(lines[20:], "mode=snapshot").written
    # Merged first, the same file as a snapshot still removes what it does not mention.
    changed = [f"{line.rsplit(',', 1)[0]},Canceled" for line in lines[22:]]
    merged = ingest(changed).merged
    assert merged is not None
    assert merged[1] > 0
    removed = ingest(changed, "mode=snapshot")
    assert (removed.written, removed.total, len(content(spark, environment))) == (True, 98, 98)


def test_real_bookings_are_not_mixed_with_synthetic_ones(
    spark: Any, environment: Environment, ingest: Ingest, lines: list[str]
) -> None:
    made = ("allow_synthetic_data=true", "synthetic_rows=300")
    assert make_task(SetupData, spark, environment, *made).run().merged is None
    assert len(content(spark, environment)) > 290
    ingest(lines)
    real = content(spark, environment)
    assert len(real) == 120
    with pytest.raises(DataQualityError, match="synthetic ones would replace them; nothing was written"):
        make_task(SetupData, spark, environment, *made).run()
    assert content(spark, environment) == real


def test_of_a_folder_each_file_is_read_once_and_later_files_win(
    spark: Any, environment: Environment, lines: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "daily files"
    folder.mkdir()

    def arrives(name: str, rows: list[str], day: int) -> None:
        file = folder / name
        file.write_text("\n".join([HEADER, *rows]), encoding="utf-8")
        os.utime(file, (1_770_000_000 + day * 86_400, 1_770_000_000 + day * 86_400))

    def ingest_folder(source: Path) -> Any:
        return make_task(SetupData, spark, environment, f"source_csv={str(source)!r}").run()

    undecided = [line.rsplit(",", 1)[0] + "," for line in lines[:60]]
    arrives("b.csv", undecided, 1)
    arrives("a.csv", lines[50:80], 2)
    first = ingest_folder(folder)
    assert (first.total, first.replaced) == (80, {"updated": 10})
    found = content(spark, environment)
    assert found[lines[0].split(",")[0]]["booking_status"] == "Open"
    assert found[lines[55].split(",")[0]]["booking_status"] != "Open"

    arrives("c.csv", lines[80:], 3)
    second = ingest_folder(folder)
    assert (second.read, second.merged) == (40, (40, 0))
    again = ingest_folder(folder / "*.csv")
    assert (again.read, again.written, again.total) == (0, False, 120)
    assert dict(again.summary())["files"] == "all were read before"
    # A file that has changed is read again.
    arrives("b.csv", lines[:60], 4)
    assert ingest_folder(folder).merged == (0, 50)
