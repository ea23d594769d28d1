"""`setup-data` through its command, on real tables. Each refusal must leave the tables as they were."""

from __future__ import annotations

import gzip
import math
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.bookings.spelling import same
from booking_mlops.core.bookings.text import MISSING_WORDS
from booking_mlops.io.source_files import local_files
from booking_mlops.services.booking_files import read_files
from booking_mlops.tasks.setup_data import SetupData
from tests.conftest import HEADER, Cli, Environment, write_bookings, write_environment
from tests.spark.conftest import make_task

pytestmark = pytest.mark.usefixtures("spark")


def ingest(booking_mlops: Cli, environment: Environment, csv: Path | str, *more: str) -> Any:
    return booking_mlops("setup-data", "--env-file", environment.file, "--booking-csv", csv, *more)


def rejected(spark: Any, environment: Environment) -> dict[int, str]:
    rows = spark.table(environment.table("bookings_rejected")).collect()
    return {row["source_line"]: row["reason"] for row in rows}


def commits(spark: Any, environment: Environment) -> list[int]:
    """The number of Delta commits of both tables."""
    return [
        spark.sql(f"DESCRIBE HISTORY {environment.table(name)}").count() for name in ("bookings", "bookings_rejected")
    ]


GOOD = "INN1,2,0,1,2,Meal Plan 1,0,Room_Type 1,10,Online,0,0,0,99.5,1,10/17/2017,Canceled"


def row(**changes: str) -> str:
    names = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))
    names.update(changes)
    return ",".join(names.values())


def test_every_line_is_a_booking_or_a_rejected_row_with_its_line_and_reason(
    spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    bad = {
        row(Booking_ID="B1", **{"date of reservation": "2018-2-29"}): '"2018-2-29" is not a date that exists',
        row(Booking_ID="B2", **{"date of reservation": "2/30/2018"}): "is not a date that exists",
        row(Booking_ID="B4", **{"date of reservation": "2018"}): "is not a date that exists",
        row(
            Booking_ID="B6", **{"booking status": "Cancelld"}
        ): '"Cancelld" is not in status_words; the nearest there is C',
        row(Booking_ID="B7", **{"lead time": "ten"}): 'lead time: "ten" is not a whole number',
        row(Booking_ID="B8", **{"lead time": "-3"}): 'lead time: "-3" is outside 0 to 1000',
        row(Booking_ID="B9", **{"average price": "NaN"}): "average price: empty",
        row(Booking_ID="B5", **{"average price": "-5"}): 'average price: "-5" is outside 0 to 2000',
        row(Booking_ID="B3", **{"type of meal": "null"}): "type of meal: empty",
        row(Booking_ID="B10", **{"average price": "10760"}): 'average price: "10760" is outside 0 to 2000',
        row(Booking_ID="B19", **{"average price": "2000.5"}): 'average price: "2000.5" is outside 0 to 2000',
        row(Booking_ID="B11", repeated="2"): '"2" is not 0 or 1',
        row(Booking_ID=""): "Booking_ID: empty",
        row(Booking_ID="B13", **{"room type": "x" * 101}): "longer than 100",
        row(Booking_ID="B14") + ",more": "not 17 fields",
        row(Booking_ID="B15", **{"lead time": "99999999999"}): "is not a whole number",
        row(Booking_ID="B16", **{"P-C": "1.5", "repeated": ""}): "repeated: empty; P-C",
        'B17,"open quote,0,0': "not 17 fields",
        row(Booking_ID="B18")[:40]: "not 17 fields",
    }
    good = [row(Booking_ID=f"G{n}") for n in range(30)]
    quoted = row(Booking_ID="Q1", **{"type of meal": '"Meal, Plan"'})
    repeated = row(Booking_ID="G5", **{"lead time": "11"})
    lines = [HEADER, *good, "", quoted, repeated, *bad]
    csv = tmp_path / "Booking.csv"
    csv.write_text("\n".join(lines), encoding="utf-8")  # no newline at the end: the last line is cut

    outcome = ingest(booking_mlops, environment, csv, "--set", "max_rejected_share=0.5")

    assert outcome.code == 0, outcome.err
    reasons = rejected(spark, environment)
    first_bad = lines.index(next(iter(bad))) + 1
    for number, (line, reason) in enumerate(bad.items(), start=first_bad):
        assert reason in reasons[number], line
    assert reasons[7] == f"Booking_ID: replaced by line {first_bad - 1}"
    kept = spark.table(environment.table("bookings"))
    assert {r["booking_id"] for r in kept.collect()} == {*(f"G{n}" for n in range(30)), "Q1"}
    assert kept.where("booking_id = 'Q1'").first()["type_of_meal"] == "Meal, Plan"
    assert kept.where("booking_id = 'G5'").first()["lead_time"] == 11
    assert len(reasons) == len(bad) + 1
    raw = spark.table(environment.table("bookings_rejected")).where("reason LIKE '%ID: empty%'").first()
    assert raw["raw_row"] in bad
    assert raw["source_file"] == "Booking.csv"
    assert f"{len(lines) - 2} read = 31 bookings + {len(bad)} rejected + 1 repeated" in outcome.out
    assert "3 × average price: is outside 0 to 2000" in outcome.out
    assert "1 × replaced by a later line of the same booking\n" in outcome.out


def test_types_and_both_spellings_of_a_date(
    spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    csv = tmp_path / "Booking.csv"
    iso = row(Booking_ID="ISO", **{"date of reservation": "2017-10-17"})
    csv.write_text("\ufeff" + "\r\n".join([HEADER, GOOD, iso]) + "\r\n", encoding="utf-8")
    assert ingest(booking_mlops, environment, csv).code == 0
    table = spark.table(environment.table("bookings"))
    assert {str(r["date_of_reservation"]) for r in table.collect()} == {"2017-10-17"}
    types = dict(table.dtypes)
    assert (types["lead_time"], types["average_price"], types["date_of_reservation"]) == ("int", "double", "date")
    assert all(field.metadata.get("comment") for field in table.schema.fields)


def test_a_second_run_writes_nothing_and_another_file_takes_no_booking_and_no_rejected_row_away(
    spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    lines = write_bookings(one, 100)
    one.write_text("\n".join([*lines, row(repeated="9")]), encoding="utf-8")
    write_bookings(two, 50, seed=4)
    first = ingest(booking_mlops, environment, one)
    assert "100 bookings + 1 rejected" in first.out
    before = commits(spark, environment)
    again = ingest(booking_mlops, environment, one)
    assert "nothing written" in again.out
    assert commits(spark, environment) == before
    assert ingest(booking_mlops, environment, two).code == 0
    assert spark.table(environment.table("bookings")).count() == 100
    assert len(rejected(spark, environment)) == 1


def test_rejected_rows_that_a_killed_run_did_not_write_are_written_by_the_next_one(
    spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    csv = tmp_path / "Booking.csv"
    lines = write_bookings(csv, 100)
    csv.write_text("\n".join([*lines, row(repeated="9")]), encoding="utf-8")
    ingest(booking_mlops, environment, csv)
    before = rejected(spark, environment)
    spark.sql(f"DELETE FROM {environment.table('bookings_rejected')}")
    again = ingest(booking_mlops, environment, csv)
    assert "version 1" in again.out  # the bookings were there already
    assert rejected(spark, environment) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        ((HEADER + "\n").encode(), "no rows below the header"),
        ((HEADER + "\n\n  \n").encode(), "no rows below the header"),
        (b"id,status\n1,2\n", 'line 1 is not the header of the bookings: "id,status"'),
        (gzip.compress((HEADER + "\n" + GOOD).encode(), mtime=0), "rename it to bad.csv.gz"),
        (
            (HEADER + "\n" + GOOD.replace("17/2017", "2/2017")).encode(),
            '"10/2/2017" can be read day first or month first',
        ),
        ((HEADER + "\n" + GOOD.replace(",99.5,", ',"1,234",')).encode(), '"1,234" may have thousands or decimals'),
        ((HEADER + "\n" + GOOD + "\n" + row(repeated="7")).encode(), "1 of 2 rows are bad (50.0%, limit 2.0%)"),
    ],
    ids=["0-byte", "header only", "blank lines", "other file", "gzip", "two dates", "two numbers", "too many bad rows"],
)
def test_a_file_that_will_not_do_is_refused_and_the_tables_are_as_they_were(
    content: bytes, message: str, spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    write_bookings(good, 20)
    assert ingest(booking_mlops, environment, good).code == 0
    before = commits(spark, environment)
    bad.write_bytes(content)
    outcome = ingest(booking_mlops, environment, bad)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert commits(spark, environment) == before
    assert spark.table(environment.table("bookings")).count() == 20


def test_a_refused_first_file_leaves_no_table(
    environment: Environment, tmp_path: Path, booking_mlops: Cli, spark: Any
) -> None:
    csv = tmp_path / "Booking.csv"
    csv.write_text(HEADER + "\n" + row(repeated="7"), encoding="utf-8")
    assert ingest(booking_mlops, environment, csv).code == 1
    assert not spark.catalog.tableExists(environment.table("bookings"))


def test_a_compressed_file_with_its_ending_is_read(
    environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    csv = tmp_path / "Booking.csv.gz"
    csv.write_bytes(gzip.compress((HEADER + "\n" + GOOD + "\n").encode()))
    assert "1 read = 1 bookings" in ingest(booking_mlops, environment, csv).out


def test_line_numbers_hold_over_many_partitions(
    spark: Any, environment: Environment, tmp_path: Path, booking_mlops: Cli
) -> None:
    csv = tmp_path / "Booking.csv"
    lines = write_bookings(csv, 3000)
    places = [7, 1500, 2999]
    for place in places:
        lines[place] = "cut"
    csv.write_text("\n".join(lines), encoding="utf-8")
    before = spark.conf.get("spark.sql.files.maxPartitionBytes")
    spark.conf.set("spark.sql.files.maxPartitionBytes", "20000")
    try:
        assert ingest(booking_mlops, environment, csv).code == 0
    finally:
        spark.conf.set("spark.sql.files.maxPartitionBytes", before)
    assert sorted(rejected(spark, environment)) == [place + 1 for place in places]


def test_no_file_is_said_unless_data_may_be_made(environment: Environment, booking_mlops: Cli, spark: Any) -> None:
    missing = ingest(booking_mlops, environment, "/nowhere/Booking.csv")
    assert missing.code == 1
    assert "/nowhere/Booking.csv: no such file" in missing.err
    unset = booking_mlops("setup-data", "--env-file", environment.file)
    assert unset.code == 1
    assert "source_csv is not set" in unset.err
    made = ["--set", "make_data=true", "--set", "made_rows=3000"]
    assert ingest(booking_mlops, environment, "/nowhere/Booking.csv", *made).code == 1
    made = booking_mlops("setup-data", "--env-file", environment.file, *made)
    assert made.code == 0, made.err
    assert "3,000 read" in made.out
    assert "(synthetic data)" in made.out
    counts = [spark.table(environment.table(name)).count() for name in ("bookings", "bookings_rejected")]
    assert sum(counts) == 3000


STATUSES = {
    **dict.fromkeys(["Canceled", "cancelled", "No-Show", "no show", "1"], "Canceled"),
    **dict.fromkeys(["Not_Canceled", "not canceled", "CHECK-OUT", "0"], "Not_Canceled"),
    **dict.fromkeys(["", "NULL", "nan", "n/a", "Booked", "check_in", "CONFIRMED"], "Open"),
}
"""Spellings of a status, and the status each stands for."""


def read_in_python(line: str, ranges: Any) -> dict[str, Any] | None:
    """What a line without quotes says, by other means than the task's; None for a bad one."""
    fields = line.split(",")
    if len(fields) != len(CSV_COLUMNS):
        return None
    found: dict[str, Any] = {}
    for column, field in zip(CSV_COLUMNS, fields, strict=True):
        text = field.strip(" ")
        if column.kind != "status" and text.lower() in MISSING_WORDS:
            return None
        try:
            words = {"yes": "1"} if column.kind == "flag" else {}
            value: Any = {"whole": int, "flag": int, "decimal": float}.get(column.kind, str)(words.get(text, text))
            if column.kind == "date":
                month, day, year = text.split("/") if "/" in text else (*text.split("-")[1:], text.split("-")[0])
                value = date(int(year), int(month), int(day))
        except (ValueError, IndexError):
            return None
        low, high = ranges.get(column.name, (0, 1) if column.kind == "flag" else (-math.inf, math.inf))
        if column.kind in ("whole", "flag", "decimal") and not (
            (text in words or (text[0].isdigit() and text[-1].isdigit())) and low <= value <= high
        ):
            return None
        if column.kind == "text" and not 0 < len(text) <= 100:
            return None
        if column.kind == "status":
            value = STATUSES.get(text)
            if value is None:
                return None
        found[column.name] = value
    return found


_WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters='",\\\ufffd'), max_size=8
)
_DATES = st.tuples(st.integers(0, 13), st.integers(0, 32), st.integers(2016, 2019))
_FIELD = {
    "text": _WORD,
    "whole": st.integers(-3, 2500).map(str) | st.just("007") | st.just(""),
    "flag": st.sampled_from(["0", "1", "1", "0", "2", "", "yes"]),
    "decimal": st.floats(0, 2100).map("{:.2f}".format) | st.sampled_from(["0", "-1", "nan", ".5", "5."]),
    "date": _DATES.map("{0[0]}/{0[1]}/{0[2]}".format) | _DATES.map("{0[2]}-{0[0]}-{0[1]}".format),
    "status": st.sampled_from([*STATUSES, "Maybe", "cancel", "2"]),
}


@st.composite
def lines_of_a_file(draw: st.DrawFn) -> list[str]:
    """Lines with up to three fields that are anything, spaces around some, and now and then one too many."""
    lines = []
    for number in range(draw(st.integers(20, 60))):
        fields = [f"ID{number}", *GOOD.split(",")[1:]]
        for place in draw(st.lists(st.integers(1, len(fields) - 1), max_size=3)):
            fields[place] = draw(_FIELD[CSV_COLUMNS[place].kind])
        if draw(st.integers(0, 19)) == 0:
            fields.append(draw(_WORD))
        lines.append(draw(st.sampled_from(["", " "])) + " ,".join(fields))
    return lines


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=lines_of_a_file())
def test_whatever_the_lines_each_is_read_as_it_says_or_rejected_and_none_is_lost(lines: list[str], spark: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "Booking.csv"
        csv.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
        task = make_task(
            SetupData, spark, write_environment(Path(folder)), f"source_csv={csv}", "date_format=m/d/Y", "decimal=."
        )
        files = local_files(csv)
        read = read_files(spark, files, task.config.file_settings, task.rules, {}, 0.02).lines
        found = read.orderBy("source_line").collect()
    assert [(row["source_line"], row["raw_row"]) for row in found] == list(enumerate(lines, start=2))
    for row, line in zip(found, lines, strict=True):
        expected = read_in_python(line, task.rules.ranges)
        assert (row["reason"] == "") == (expected is not None), (line, row["reason"], expected)
        if expected is not None:
            spelled = {column.name for column in CSV_COLUMNS if column.kind == "text"}
            assert {name: row[name] for name in expected if name not in spelled} == {
                name: value for name, value in expected.items() if name not in spelled
            }
            assert all(same(row[name]) == same(expected[name]) for name in spelled)
