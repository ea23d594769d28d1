"""Files as people have them, read by one Spark job for many spellings."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.core.bookings.file_settings import FileSettings
from booking_mlops.core.bookings.quality import DEFAULT_RANGES, RowRules
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.bookings.status import StatusWords
from booking_mlops.errors import DataQualityError
from booking_mlops.io.machine import Machine
from booking_mlops.io.source_files import list_files
from booking_mlops.io.spark import computed_once
from booking_mlops.services import booking_lines
from booking_mlops.services.booking_files import BookingLines, read_files
from tests.conftest import HEADER

RULES = RowRules(DEFAULT_RANGES, StatusWords(), date(2026, 3, 1), 730, 7300)
_VALUES = "X,2,0,1,2,Meal Plan 1,0,Room_Type 1,10,Online,0,0,0,99.5,1,2017-10-17,Canceled"
GOOD = dict(zip(HEADER.split(","), _VALUES.split(","), strict=True))
LAPTOP = Machine(on_cluster=False, lake=Path())


def content(rows: Sequence[Mapping[str, str]], separator: str = ",", end: str = "\n") -> str:
    """A file with a line for each of `rows`, which say what is not as in GOOD; the IDs are 0, 1, …."""
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, HEADER.split(","), delimiter=separator, lineterminator=end)
    writer.writeheader()
    writer.writerows({**GOOD, "Booking_ID": str(number), **row} for number, row in enumerate(rows))
    return written.getvalue()


def read(spark: Any, source: Path | str, known: Mapping[str, Any] | None = None, **settings: Any) -> BookingLines:
    files = list_files(spark, LAPTOP, str(source))
    return read_files(spark, files, FileSettings(**settings), RULES, known or {}, 0.02)


def rows_of(found: BookingLines, *, kept: bool = False) -> list[Any]:
    with computed_once(found.lines, LAPTOP) if kept else nullcontext(found.lines) as lines:
        return booking_lines.with_standing(lines, kept=kept).orderBy("file_order", "source_line").collect()


SPELLINGS: list[tuple[str, str, Any]] = [
    ("date of reservation", "2017-10-2", date(2017, 10, 2)),
    ("date of reservation", "2017/10/02", date(2017, 10, 2)),
    ("date of reservation", "2017.10.2", date(2017, 10, 2)),
    ("date of reservation", "20171002", date(2017, 10, 2)),
    ("date of reservation", "2017-10-02 00:00:00", date(2017, 10, 2)),
    ("date of reservation", "2017-10-02T23:59:59.5Z", date(2017, 10, 2)),
    ("date of reservation", "2017-10-02 11:59 PM", date(2017, 10, 2)),
    ("date of reservation", "17/10/2017", date(2017, 10, 17)),
    ("date of reservation", "2/10/2017", date(2017, 10, 2)),
    ("date of reservation", "02/10/17", date(2017, 10, 2)),
    ("date of reservation", "2/10/2017 8:30", date(2017, 10, 2)),
    ("date of reservation", "2.10.2017", date(2017, 10, 2)),
    ("date of reservation", "10-17-2017", date(2017, 10, 17)),
    ("date of reservation", "10-02-2017", date(2017, 10, 2)),
    ("date of reservation", "2 Oct 2017", date(2017, 10, 2)),
    ("date of reservation", "02-October-17", date(2017, 10, 2)),
    ("date of reservation", "Oct 2, 2017", date(2017, 10, 2)),
    ("date of reservation", "10/17/2017", "is not a date that exists"),
    ("date of reservation", "2018-2-29", "is not a date that exists"),
    ("date of reservation", "2 Okt 2017", "is not a date that exists"),
    ("date of reservation", "2017", "is not a date that exists"),
    ("date of reservation", "1/1/1900", "is more than 7300 days before as_of"),
    ("date of reservation", "NULL", "date of reservation: empty"),
    ("average price", "1,234.50", 1234.5),
    ("average price", "1,234", 1234.0),
    ("average price", "1.234", 1.234),
    ("average price", "€ 99.50", 99.5),
    ("average price", "99.50 EUR", 99.5),
    ("average price", "$1 234.50", 1234.5),
    ("average price", "US$99", 99.0),
    ("average price", "1'234", 1234.0),
    ("average price", "-5", "is outside 0 to 2000"),
    ("average price", "-$5", "is outside 0 to 2000"),
    ("average price", "99,50", "is not a number"),
    ("average price", "1,23,4", "is not a number"),
    ("average price", ".5", "is not a number"),
    ("average price", "ninety", '"ninety" is not a number'),
    ("average price", "nan", "average price: empty"),
    ("lead time", "2.0", 2),
    ("lead time", "007", 7),
    ("lead time", "1,000", 1000),
    ("lead time", "2.5", "is not a whole number"),
    ("lead time", "1.000", "is not a whole number"),
    ("lead time", "-3", "is outside 0 to 1000"),
    ("lead time", "9\x07" + "9" * 99, '"9?' + "9" * 58 + '" is not a whole number'),
    ("repeated", "Yes", 1),
    ("repeated", "f", 0),
    ("repeated", "1.0", 1),
    ("repeated", "2", "is not 0 or 1"),
    ("repeated", "maybe", "is not 0 or 1"),
    ("repeated", "", "repeated: empty"),
    ("type of meal", "  Meal Plan 2 ", "Meal Plan 2"),
    ("type of meal", "None", "None"),
    ("type of meal", "n/a", "type of meal: empty"),
    ("type of meal", 'say "B&B", with\nbreakfast', 'say "B&B", with\nbreakfast'),
    ("type of meal", "a\\", "a\\"),
    ("booking status", "no show", "Canceled"),
    ("booking status", "", "Open"),
]
"""Header, text, and the value it has, or what its reason says; the file's dates have the day first around `/`."""


@pytest.mark.parametrize("source", ["csv", "parquet"])
def test_each_spelling_is_read_or_rejected_with_its_reason(source: str, spark: Any, tmp_path: Path) -> None:
    # Enough dates of one order for the one bad date not to matter.
    rows = [{header: text} for header, text, _ in SPELLINGS]
    rows += [{"date of reservation": "17/10/2017", "average price": "99.5"}] * 60
    path = tmp_path / f"Booking.{source}"
    if source == "csv":
        path.write_text(content(rows), encoding="utf-8")
    else:
        import pandas as pd

        frame = pd.read_csv(io.StringIO(content(rows)), dtype=str, keep_default_na=False)
        frame.to_parquet(path)
    found = {row["booking_id"]: row for row in rows_of(read(spark, path))}
    names = {column.header: column.name for column in CSV_COLUMNS}
    for number, (header, text, expected) in enumerate(SPELLINGS):
        row = found[str(number)]
        if isinstance(expected, str) and not isinstance(row[names[header]], str):
            assert expected in row["reason"], (header, text)
        elif row["reason"]:
            assert isinstance(expected, str), (header, text, row["reason"])
            assert expected in row["reason"], (header, text)
        else:
            assert row[names[header]] == expected, (header, text)


def test_a_decimal_comma_is_read_when_the_file_has_it(spark: Any, tmp_path: Path) -> None:
    prices = {"99,5": 99.5, "1.234": 1234.0, "1.234,50": 1234.5, "1 234,5": 1234.5, "100": 100.0, "99,50 €": 99.5}
    path = tmp_path / "Booking.csv"
    rows = [{"average price": price, "lead time": "2,0"} for price in prices]
    path.write_text(content(rows, separator=";"), encoding="utf-8")
    found = read(spark, path)
    assert [row["average_price"] for row in rows_of(found)] == list(prices.values())
    assert {row["lead_time"] for row in rows_of(found)} == {2}
    assert ("numbers", "with a decimal comma") in found.notes


def test_lines_keep_their_numbers_around_fields_over_several_lines_and_a_stray_quote(
    spark: Any, tmp_path: Path
) -> None:
    path = tmp_path / "Booking.csv"
    rows: list[dict[str, str]] = [{}, {"type of meal": "a\r\nb"}, {}, {}, {"room type": "c\n\n\nd"}, {}]
    text = content(rows, end="\r\n")
    lines = text.split("\r\n")
    lines.insert(5, 'S,"stray')
    path.write_text("\r\n".join(lines), encoding="utf-8", newline="")
    found = rows_of(read(spark, path))
    assert [(row["source_line"], row["booking_id"] if not row["reason"] else "bad") for row in found] == [
        (2, "0"), (3, "1"), (5, "2"), (6, "bad"), (7, "3"), (8, "4"), (12, "5"),
    ]  # fmt: skip
    assert found[1]["type_of_meal"] == "a\nb"


@pytest.mark.parametrize(
    ("name", "encoding", "settings"),
    [
        ("a.csv", "utf-16", {}),
        ("a.csv", "utf-16-be", {"encoding": "utf-16-be"}),
        ("a.csv", "latin-1", {"encoding": "latin-1"}),
        ("a.csv", "cp1252", {"encoding": "windows-1252"}),
        ("a.csv.gz", "utf-8-sig", {}),
        ("a.csv.bz2", "utf-8", {}),
        ("a.csv.gz", "utf-16", {}),
    ],
)
def test_packed_files_and_other_encodings(
    name: str, encoding: str, settings: dict[str, str], spark: Any, tmp_path: Path
) -> None:
    meal = "Frühstück" + (" 5 €" if encoding == "cp1252" else "")
    packed = content([{"type of meal": meal}, {}], separator="\t", end="\r\n").encode(encoding)
    packers = {".gz": gzip.compress, ".bz2": bz2.compress}
    path = tmp_path / name
    path.write_bytes(packers.get(path.suffix, bytes)(packed))
    found = rows_of(read(spark, path, **settings))
    assert [(row["source_line"], row["type_of_meal"], row["reason"]) for row in found] == [
        (2, meal, ""), (3, "Meal Plan 1", ""),
    ]  # fmt: skip


def test_columns_that_no_table_has_are_left_whatever_their_names(spark: Any, tmp_path: Path) -> None:
    extra = ["", "source_line", "raw_row", "reason"]
    lines = content([{}, {}]).splitlines()
    (tmp_path / "a.csv").write_text("\n".join(",".join([*extra, line]) for line in lines), encoding="utf-8")
    found = read(spark, tmp_path / "a.csv")
    assert [(row["source_line"], row["reason"], row["booking_id"]) for row in rows_of(found)] == [
        (2, "", "0"), (3, "", "1"),
    ]  # fmt: skip
    assert dict(found.notes)["left out"] == "columns (no name), source_line, raw_row, reason"


def test_latin_1_without_its_setting_is_said_by_line(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content([{"type of meal": "Frühstück"}]).encode("latin-1"))
    (row,) = rows_of(read(spark, path))
    assert "set encoding, such as latin-1" in row["reason"]
    # Every reader of bookings_rejected can read it, and no byte is lost.
    assert "Frühstück" in row["raw_row"]


def test_what_a_file_could_not_spell_stays_as_it_is(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content([{"type of meal": "Fr\ufffdhstück"}]), encoding="utf-8")
    (row,) = rows_of(read(spark, path))
    assert "set encoding" in row["reason"]
    assert "Fr\ufffdhstück" in row["raw_row"]


def test_a_record_of_several_lines_that_is_not_utf_8_is_said_too(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content([{"type of meal": '"Früh\nstück"'}, {}]).encode("latin-1"))
    first, second = rows_of(read(spark, path))
    assert "set encoding, such as latin-1" in first["reason"]
    assert second["reason"] == ""


def test_a_line_is_read_the_same_with_and_without_quotes(spark: Any, tmp_path: Path) -> None:
    # A quote makes Spark's parser of CSV read a line that is split otherwise.
    fields = _VALUES.split(",")
    lines = [
        fields,
        ["", *fields[1:]],
        [f"  {value} " for value in fields],
        [*fields[:4], "", *fields[5:9], "1 0", *fields[10:]],
        [*fields[:-1], ""],
        fields[:-1],
        [*fields, ""],
        [*fields, "x", "y"],
        ["Ü", *fields[1:]],
    ]
    plain = [",".join(line) for line in lines]
    quoted = [",".join(f'"{value}"' if place == 5 else value for place, value in enumerate(line)) for line in lines]
    path = tmp_path / "Booking.csv"
    path.write_text("\n".join([HEADER, *plain, *quoted]), encoding="utf-8")
    found = read(spark, path).lines.drop("raw_row", "source_line").collect()
    # Blanks inside quotes are not around a value, but are cut off as well.
    assert found[: len(lines)] == found[len(lines) :]
    assert [row["reason"] == "" for row in found[: len(lines)]] == [True, False, True, False, True, *[False] * 3, True]


def test_control_characters_around_a_value_do_not_count(spark: Any, tmp_path: Path) -> None:
    padded = ",".join(f"\x0b{value}\t\x1f" for value in _VALUES.split(","))
    path = tmp_path / "Booking.csv"
    path.write_text("\n".join([HEADER, _VALUES, padded]), encoding="utf-8")
    first, second = read(spark, path).lines.drop("raw_row", "source_line").collect()
    assert second == first
    assert first["reason"] == ""


NAMES = ["My Documents", "Über 50% #1", "a [1]", "*", "{x,y}?", "a%20b", 'it\'s "it", a\\b']


def test_a_path_is_a_path_whatever_its_name(spark: Any, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.csv").write_text(content([{"Booking_ID": name}] * (number + 1)), encoding="utf-8")
        one = rows_of(read(spark, folder / f"{name}.csv"))
        assert ({row["booking_id"] for row in one}, len(one)) == ({name}, number + 1)
        assert {row["source_file"] for row in one} == {f"{name}.csv"}
    # All at once: each line knows its file.
    together = rows_of(read(spark, tmp_path / "?*" / "?*.csv"))
    assert {(row["source_file"], row["booking_id"]) for row in together} == {(f"{name}.csv", name) for name in NAMES}
    assert sorted(row["source_line"] for row in together) == sorted(
        line for number in range(len(NAMES)) for line in range(2, number + 3)
    )


@pytest.mark.parametrize(
    ("kept", "most"),
    [
        pytest.param(False, 0, id="nothing is kept"),
        pytest.param(True, booking_lines.MAX_REPEATED, id="few have several lines"),
        pytest.param(True, 1, id="many have several lines"),
    ],
)
def test_of_a_folder_later_files_win_and_later_lines_and_each_says_what_became_of_it(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, most: int
) -> None:
    monkeypatch.setattr(booking_lines, "MAX_REPEATED", most)

    def line(identifier: str, lead_time: str) -> dict[str, str]:
        return {"Booking_ID": identifier, "lead time": lead_time}

    files = {
        "new.csv": [line("A", "3"), line("B", "4"), line("B", "4.0"), line("C", "x")],
        "old.csv": [line("A", "1"), line("A", "2"), line("C", "5"), line("C", "6")],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text(content(rows), encoding="utf-8")
    (tmp_path / "semicolons.csv").write_text(content([line("D", "8")], separator=";"), encoding="utf-8")
    (tmp_path / "_SUCCESS").write_text("", encoding="utf-8")
    for age, name in enumerate(["new.csv", "old.csv", "semicolons.csv"]):
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    found = [
        (row["source_file"], row["source_line"], row["booking_id"], row["standing"], row["reason"])
        for row in rows_of(read(spark, tmp_path), kept=kept)
    ]
    assert found == [
        ("semicolons.csv", 2, "D", "booking", ""),
        ("old.csv", 2, "A", "updated", ""),
        ("old.csv", 3, "A", "updated", ""),
        ("old.csv", 4, "C", "replaced", "Booking_ID: replaced by line 5"),
        ("old.csv", 5, "C", "booking", ""),
        ("new.csv", 2, "A", "booking", ""),
        ("new.csv", 3, "B", "equal", ""),
        ("new.csv", 4, "B", "booking", ""),
        ("new.csv", 5, "C", "bad", 'lead time: "x" is not a whole number'),
    ]


def test_tables_are_sources_too(spark: Any, tmp_path: Path, environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = spark.createDataFrame(
        [("1", 2.0, 0, 1, 2, "BB", True, "R", 3, "Online", False, 0, 0, 1.234, 1, date(2017, 2, 1), None)],
        "Booking_ID STRING, adults DOUBLE, children INT, weekend_nights INT, week_nights INT, meal_plan STRING, "
        "car_parking_space BOOLEAN, room_type STRING, lead_time INT, market_segment STRING, repeated BOOLEAN, p_c INT, "
        "p_not_c INT, Average_Price DOUBLE, special_requests INT, arrival_date DATE, booking_status STRING",
    )
    folder = tmp_path / "delta [1]"
    frame.write.format("delta").save(str(tmp_path / "other"))
    (tmp_path / "other").rename(folder)
    spark.sql(f"CREATE DATABASE IF NOT EXISTS spark_catalog.{environment.schema}")
    frame.write.format("delta").saveAsTable(f"spark_catalog.{environment.schema}.raw")
    for source in (folder, f"spark_catalog.{environment.schema}.raw"):
        (row,) = rows_of(read(spark, source))
        assert (row["reason"], row["source_line"], row["average_price"], row["repeated"]) == ("", 1, 1.234, 0)
        assert (row["date_of_reservation"], row["booking_status"]) == (date(2017, 2, 1), "Open")
        assert '"Average_Price":1.234' in row["raw_row"]
        # Spark's times are those of the machine's zone.
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            (listed,) = list_files(spark, LAPTOP, str(source))
        time.tzset()
        assert abs(datetime.now(timezone.utc) - listed.modified) < timedelta(minutes=10)
    with pytest.raises(DataQualityError, match="no such file"):
        read(spark, f"spark_catalog.{environment.schema}.none")


def test_categories_have_one_spelling(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    segments = ["Online", "ONLINE", "online", "online", "Offline", "off line"]
    path.write_text(content([{"market segment type": segment} for segment in segments]), encoding="utf-8")
    found = read(spark, path)
    assert [row["market_segment_type"] for row in rows_of(found)] == ["online"] * 4 + ["Offline"] * 2
    assert dict(found.notes)["one spelling"].startswith("market_segment_type: ONLINE → online")
    known = read(spark, path, {"market_segment_type": {"OnLine"}})
    assert [row["market_segment_type"] for row in rows_of(known)][:4] == ["OnLine"] * 4
