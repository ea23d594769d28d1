"""Whatever a file is: each of its lines becomes a row, good or bad, or it is refused in one line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from booking_mlops.core.bookings.file_kinds import kind_of, text_of
from booking_mlops.core.bookings.file_settings import FileSettings
from booking_mlops.core.bookings.header import find_header
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.errors import DataQualityError
from booking_mlops.io.source_files import list_files
from booking_mlops.services.booking_files import read_files
from booking_mlops.services.booking_lines import with_standing
from tests.spark.services.test_booking_files import GOOD, LAPTOP, RULES

_DATES = st.dates().map(str) | st.sampled_from(["10/17/2017", "17/10/2017", "1/2/2017", "17.10.17", "2018-2-29", "NaN"])
_NUMBERS = st.sampled_from(["1", "0", "2.0", "1,5", "1.234", "1,234.5", "-1", "€ 9", "x", "", "NULL"])
_TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=9
)
_BY_KIND = {"date": _DATES, "text": _TEXTS, "status": st.sampled_from(["Canceled", "0", "", "?"])}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str]:
    """The text of a file, and its encoding: header, order, spelling, separator, quotes and cuts are drawn."""
    separator = draw(st.sampled_from(",;\t|"))
    columns = draw(st.permutations(CSV_COLUMNS))
    spell = draw(st.sampled_from([str.upper, str.title, lambda name: name.replace(" ", "_")]))
    names = [spell(draw(st.sampled_from([column.header, *column.aliases]))) for column in columns]
    if draw(st.integers(0, 9)) == 0:
        names[0] = draw(_TEXTS)
    lines = [separator.join(f'"{name}"' if draw(st.booleans()) else name for name in names)]
    for number in range(draw(st.integers(0, 12))):
        fields = [GOOD[column.header] if column.kind != "text" else f"{column.name}{number}" for column in columns]
        for place in draw(st.lists(st.integers(0, len(fields) - 1), max_size=3)):
            fields[place] = draw(_BY_KIND.get(columns[place].kind, _NUMBERS))
        quoted = draw(st.sampled_from([str, lambda field: '"' + field.replace('"', '""') + '"']))
        line = separator.join(map(quoted, fields))
        lines.append(line[: draw(st.integers(0, len(line)))] if draw(st.integers(0, 6)) == 0 else line)
        if draw(st.integers(0, 6)) == 0:
            lines[-1] = lines[-1].replace(separator, draw(st.sampled_from(['"', "\n", f'{separator}"\n', ""])), 1)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return end.join(lines), draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=files())
def test_each_line_becomes_a_row_or_the_file_is_refused_in_one_line(file: tuple[str, str], spark: Any) -> None:
    text, encoding = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(text.encode(encoding, errors="replace"))
        refused = ""
        named = {"encoding": "latin-1"} if encoding == "latin-1" else {}
        try:
            found = read_files(spark, list_files(spark, LAPTOP, str(path)), FileSettings(**named), RULES, {}, 0.02)
            rows = with_standing(found.lines, kept=False).orderBy("source_line").collect()
        except DataQualityError as error:
            refused = str(error)
            rows = []
    if refused:
        assert refused.isprintable()
        return
    expected = text.encode(encoding, errors="replace").decode(encoding)
    lines = expected.replace("\r\n", "\n").split("\n")
    inside = [line for row in rows for line in row["raw_row"].split("\n") if line.strip(" ")]
    assert inside == [line for line in lines[1:] if line.strip(" ")]
    for row in rows:
        assert row["raw_row"].startswith(lines[row["source_line"] - 1])
        assert (row["standing"] == "booking") <= (row["reason"] == "")
        assert "\n" not in row["reason"]


@settings(max_examples=300)
@given(head=st.binary(max_size=60) | files().map(lambda file: file[0].encode(file[1], errors="replace")))
def test_any_bytes_are_a_header_or_refused_in_one_line(head: bytes) -> None:
    names, refused = 0, ""
    try:
        names = len(find_header(text_of(head, kind_of(head, "f", None), 20), "f", {}, None).names)
    except DataQualityError as error:
        refused = str(error)
    assert names >= len(CSV_COLUMNS) or (refused.isprintable() and 0 < len(refused) < 2000)
