"""What a whole file allows: the order of its dates, its decimal sign, its spellings, its records and its kind."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.core.bookings.dates import DAY_FIRST, MONTH_FIRST, YEAR_FIRST, decide_orders, order_of
from booking_mlops.core.bookings.evidence import Tally, tallied
from booking_mlops.core.bookings.file_kinds import FileKind, compression, kind_of, text_of
from booking_mlops.core.bookings.file_settings import FileSettings
from booking_mlops.core.bookings.numbers import decide_decimal
from booking_mlops.core.bookings.records import joined_records
from booking_mlops.core.bookings.spelling import differing, replacements
from booking_mlops.core.bookings.text import shown
from booking_mlops.errors import ConfigError, DataQualityError


class TestDates:
    @pytest.mark.parametrize(
        ("date_format", "order"),
        [
            ("d/m/Y", DAY_FIRST), ("dd.MM.yyyy", DAY_FIRST), ("%d-%m-%y", DAY_FIRST), ("m/d/Y", MONTH_FIRST),
            ("MM/dd/yyyy", MONTH_FIRST), ("Y-m-d", YEAR_FIRST), ("yyyy-MM-dd", YEAR_FIRST),
        ],
    )  # fmt: skip
    def test_a_format_names_an_order(self, date_format: str, order: str) -> None:
        assert order_of(date_format) == order

    @pytest.mark.parametrize(
        ("tallies", "orders"),
        [
            ({}, {}),
            ({"/d": Tally(1, "13/1/2018"), "/?": Tally(99, "1/2/2018")}, {"/": DAY_FIRST}),
            ({"/m": Tally(1, "1/13/2018"), "-d": Tally(1, "13-1-2018")}, {"/": MONTH_FIRST, "-": DAY_FIRST}),
            ({"/m": Tally(98), "/d": Tally(2, "13/1/2018")}, {"/": MONTH_FIRST}),
            ({".?": Tally(1, "1.2.2018")}, {".": DAY_FIRST}),
            ({".m": Tally(1, "1.13.2018")}, {".": MONTH_FIRST}),
        ],
    )
    def test_a_day_above_12_decides(self, tallies: dict[str, Tally], orders: dict[str, str]) -> None:
        assert decide_orders(tallies, None, "f", 0.02) == orders

    @pytest.mark.parametrize(
        ("tallies", "message"),
        [
            ({"/?": Tally(9, "1/2/2018")}, 'f: a date such as "1/2/2018" can be read day first or month first'),
            ({"-?": Tally(9, "1-2-2018"), "/m": Tally(9, "1/13/2018")}, '"1-2-2018"'),
            ({"/d": Tally(5, "13/1/2018"), "/m": Tally(5, "1/14/2018")}, "contradict each other"),
            ({"-y": Tally(5, "17-10-18")}, '"17-10-18" can begin with its day, its month or its year'),
        ],
    )
    def test_two_readings_are_refused_until_one_is_named(self, tallies: dict[str, Tally], message: str) -> None:
        with pytest.raises(DataQualityError, match="set date_format to") as caught:
            decide_orders(tallies, None, "f", 0.02)
        assert message in str(caught.value)
        assert set(decide_orders(tallies, "d/m/Y", "f").values()) == {DAY_FIRST}


class TestNumbers:
    @pytest.mark.parametrize(
        ("tallies", "decimal"),
        [
            ({}, "."),
            ({".": Tally(2), "?.": Tally(9)}, "."),
            ({",": Tally(2), "?.": Tally(9)}, ","),
            ({",": Tally(99), ".": Tally(1)}, ","),
        ],
    )
    def test_a_number_without_doubt_decides(self, tallies: dict[str, Tally], decimal: str) -> None:
        assert decide_decimal(tallies, None, "f", "price", 0.02) == decimal

    @pytest.mark.parametrize(
        ("tallies", "message"),
        [
            ({"?.": Tally(1, "1.234")}, 'f: price: a number such as "1.234" may have thousands or decimals'),
            ({"?,": Tally(1, "1,234")}, '"1,234"'),
            ({".": Tally(1, "1.5"), ",": Tally(1, "1,5")}, 'contradict each other: "1.5" and "1,5"'),
        ],
    )
    def test_two_readings_are_refused_until_one_is_named(self, tallies: dict[str, Tally], message: str) -> None:
        with pytest.raises(DataQualityError, match="set decimal to") as caught:
            decide_decimal(tallies, None, "f", "price", 0.02)
        assert message in str(caught.value)
        assert decide_decimal(tallies, ",", "f", "price") == ","


def test_tallies_of_parts_of_a_file_add_up() -> None:
    assert tallied([("", 5, "x"), ("/d", 1, None), ("/d", 2, "13/1/2018")]) == {"/d": Tally(3, "13/1/2018")}


def test_a_category_keeps_the_spelling_of_the_table_or_the_most_frequent_one() -> None:
    counts = {"Online": 3, "online": 5, "ON LINE": 5, "Offline": 1}
    assert differing(counts) == {"Online", "online", "ON LINE"}
    assert replacements(counts, []) == {"Online": "ON LINE", "online": "ON LINE"}
    assert replacements(counts, ["Online", "x"]) == {"online": "Online", "ON LINE": "Online"}


_TEXT = st.text(st.sampled_from('ab," \n;'), max_size=6)


class TestRecords:
    @given(rows=st.lists(st.tuples(_TEXT, _TEXT), max_size=8))
    def test_what_a_writer_of_csv_wrote_is_put_together_again(self, rows: list[tuple[str, str]]) -> None:
        written = io.StringIO()
        csv.writer(written, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
        lines = dict(enumerate(written.getvalue().split("\n")[:-1], start=2))
        found = joined_records(lines, 2, ",")
        inside = {number for record in found for number in range(record.first, record.last + 1)}
        texts = {record.first: record.text for record in found}
        texts |= {number: line for number, line in lines.items() if number not in inside}
        # A field may look like a record of its own; then it is one too many, and none is lost.
        assert "\n".join(texts[number] for number in sorted(texts)) + "\n" * bool(rows) == written.getvalue()
        if not any('"' in field or "\n" in field for row in rows for field in row):
            assert len(texts) == len(rows)

    def test_a_stray_quote_takes_no_other_line_with_it(self) -> None:
        lines = {2: 'a,"b', 3: "c,d", 4: 'e,"f', 5: 'g",h', 6: "i,j"}
        assert [(r.first, r.last) for r in joined_records({**lines, 5: 'g"'}, 2, ",")] == [(4, 5)]
        assert joined_records(lines, 2, ",") == []
        assert joined_records({2: 'a,"b'}, 2, ",") == []


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            # At a fixed time: the bytes are part of a test's name, which both workers of pytest must agree on.
            archive.writestr(zipfile.ZipInfo(name), "x")
    return content.getvalue()


class TestKinds:
    @pytest.mark.parametrize(
        ("head", "encoding", "kind"),
        [
            (b"a,b\n", None, FileKind("text")),
            ("a,ü\n".encode("latin-1"), "latin-1", FileKind("text", "latin-1")),
            ("a,b\n".encode("utf-16"), None, FileKind("text", "utf-16-le")),
            (b"\xfe\xff" + "a,b\n".encode("utf-16-be"), "utf-16", FileKind("text", "utf-16-be")),
            ("a,b\n".encode("utf-16-be"), "utf-16-be", FileKind("text", "utf-16-be")),
            (b"PAR1\x00", None, FileKind("parquet")),
        ],
    )
    def test_what_can_be_read(self, head: bytes, encoding: str | None, kind: FileKind) -> None:
        assert kind_of(head, "f", encoding) == kind
        if kind.kind == "text":
            assert text_of(head, kind, 1)[0].startswith("a,")

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook (.xlsx): save it as CSV"),
            (zipped("Booking.csv"), "a zip archive: unpack it"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook"),
            (b"%PDF-1.7", "a PDF"),
            (b"<!DOCTYPE html>", "an HTML page"),
            (b'[{"a": 1}]', "a JSON file"),
            ("a,b\n".encode("utf-16-le"), "set encoding to utf-16-le"),
            ("a,b\n".encode("utf-16-be"), "set encoding to utf-16-be"),
            (b"a,b\x00" + bytes(range(1, 200)), "no text, nor Parquet"),
        ],
    )
    def test_anything_else_is_named_in_one_line(self, head: bytes, message: str) -> None:
        with pytest.raises(DataQualityError) as caught:
            kind_of(head, "f", None)
        assert message in str(caught.value)
        assert str(caught.value).isprintable()

    def test_packed_content_is_seen(self) -> None:
        assert [compression(packed) for packed in (gzip.compress(b"a"), bz2.compress(b"a"), b"a")] == [
            ".gz", ".bz2", None,
        ]  # fmt: skip


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"date_format": "d/M"}, "date_format: 'd/M' is no order of day, month and year; "),
            ({"decimal": "comm"}, "decimal: 'comm' is not known; did you mean 'comma'?"),
            ({"encoding": "latin-2"}, "did you mean 'latin-1'?"),
            ({"separator": "tabs"}, "did you mean 'tab'?"),
            ({"columns": {"lead_tme": "x"}}, "did you mean 'lead_time'?"),
            ({"columns": {"Vorlauf": "lead_time"}}, "is the wrong way round; write lead_time: Vorlauf"),
        ],
    )
    def test_the_nearest_value_is_named(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            FileSettings(**settings)  # type: ignore[arg-type]
        assert message in str(caught.value)

    def test_names_of_signs_and_encodings(self) -> None:
        told = FileSettings(decimal="comma", encoding="ISO-8859-1", separator="tab").resolved
        assert (told.decimal, told.encoding, told.separator) == (",", "latin-1", "\t")


@given(text=st.text())
def test_what_a_message_quotes_is_short_and_has_no_control_characters(text: str) -> None:
    found = shown(text)
    assert len(found) <= 61
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in found)
