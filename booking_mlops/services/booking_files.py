"""Reads files of bookings: finds out how each is made, and gives their lines one shape."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from booking_mlops.core.bookings import dates, numbers
from booking_mlops.core.bookings.file_kinds import compression, kind_of, text_of
from booking_mlops.core.bookings.file_settings import FileSettings
from booking_mlops.core.bookings.header import Header, find_header, header_of_names
from booking_mlops.core.bookings.quality import RowRules
from booking_mlops.core.bookings.spelling import MAX_SPELLINGS, differing, replacements, same
from booking_mlops.errors import DataQualityError
from booking_mlops.io.source_files import SourceFile
from booking_mlops.io.source_formats import ending, head, open_table, open_text, path_of_row, raw_head
from booking_mlops.services import booking_lines
from booking_mlops.services.booking_lines import CATEGORIES, Evidence, Format

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_LINES_ABOVE = 20
"""Lines among which the header is looked for, to say where it is when it is not the first."""


@dataclass(frozen=True)
class BookingLines:
    """The lines of files and what is to be said about how they were read.

    `lines` has `source_file`, `file_order` (0 for the first), `source_line`, `raw_row`, the typed columns, and
    `reason`, '' when good.
    """

    lines: DataFrame
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Group:
    """Files that are opened together: they have the same columns, in the same order, in the same encoding."""

    header: Header
    files: tuple[tuple[int, SourceFile], ...]
    rows: DataFrame
    text: Callable[[str], str]
    is_text: bool
    decimal: str | None = None


@dataclass(frozen=True)
class _Counted:
    """A group with what was counted over each of its files, and how each is spelled."""

    group: _Group
    rows: DataFrame
    files: tuple[tuple[Evidence, SourceFile, int, Format], ...]


def read_files(
    spark: SparkSession,
    files: Sequence[SourceFile],
    settings: FileSettings,
    rules: RowRules,
    known: Mapping[str, Collection[str]],
    tolerated: float,
) -> BookingLines:
    """Return the lines of the files.

    `known` are the spellings of categories that `bookings` has, by column. Up to the share `tolerated` of the values
    that say how a file is spelled may contradict the others.

    Raises: DataQualityError when a file can't be read, or allows two readings.
    """
    told = settings.resolved
    groups = _groups(spark, files, told)
    return _read(spark, groups, told, rules, known, tolerated)


def read_rows(
    spark: SparkSession, rows: DataFrame, name: str, rules: RowRules, known: Mapping[str, Collection[str]]
) -> BookingLines:
    """Return the lines that `rows` hold in their column `raw_row`, header first, as `read_files` does."""
    first = rows.limit(1).collect()
    header = find_header([row["raw_row"] for row in first], name, {}, None)
    file = SourceFile("", name, _EPOCH, 0)
    group = _Group(header, ((0, file),), rows, booking_lines.fields_sql(header), is_text=True)
    return _read(spark, [group], FileSettings(), rules, known, 0.0)


def _read(
    spark: SparkSession,
    groups: Sequence[_Group],
    told: FileSettings,
    rules: RowRules,
    known: Mapping[str, Collection[str]],
    tolerated: float,
) -> BookingLines:
    counted = [_counted(group, told, rules, tolerated) for group in groups]
    numbered = [_numbered(spark, one) for one in counted]
    renamed = _renamed(counted, [rows for rows, _ in numbered], known)
    judged = [
        booking_lines.judged_lines(rows, one.group.header, rules, form, renamed)
        for one, (rows, form) in zip(counted, numbered, strict=True)
    ]
    together = judged[0]
    for more in judged[1:]:
        together = together.unionByName(more)
    return BookingLines(together, _notes(counted, renamed))


def _groups(spark: SparkSession, files: Sequence[SourceFile], told: FileSettings) -> list[_Group]:
    """Look at the head of each file, and open together those that look alike."""
    texts: dict[tuple[str, tuple[str, ...], str, int], list[tuple[int, SourceFile]]] = {}
    headers = {}
    tables: dict[object, list[tuple[int, SourceFile]]] = {}
    for order, file in enumerate(files):
        if file.form != "file":
            tables[file.path] = [(order, file)]
            continue
        kind = kind_of(_unpacked_head(spark, file), file.name, told.encoding)
        if kind.kind == "parquet":
            columns = tuple(open_table(spark, [file]).dtypes)
            tables.setdefault(columns, []).append((order, file))
            continue
        first = text_of(head(spark, file), kind, _LINES_ABOVE)
        if not first:
            raise DataQualityError(f"{file.name}: the file is empty; nothing was written")
        header = find_header(first, file.name, told.columns, told.separator)
        key = (kind.encoding, header.names, header.separator, header.line)
        headers[key] = header
        texts.setdefault(key, []).append((order, file))
    return [
        *(_text_group(spark, headers[key], key[0], own) for key, own in texts.items()),
        *(_table_group(spark, own, told) for own in tables.values()),
    ]


def _unpacked_head(spark: SparkSession, file: SourceFile) -> bytes:
    packed = compression(raw_head(spark, file))
    if packed and not ending(file):
        raise DataQualityError(
            f"{file.name}: this is a compressed file without its ending; rename it to {file.name}{packed}; "
            "nothing was written"
        )
    return head(spark, file)


def _text_group(spark: SparkSession, header: Header, encoding: str, files: list[tuple[int, SourceFile]]) -> _Group:
    rows = open_text(spark, [file for _, file in files], encoding)
    return _Group(header, tuple(files), rows, booking_lines.fields_sql(header), is_text=True)


def _table_group(spark: SparkSession, files: list[tuple[int, SourceFile]], told: FileSettings) -> _Group:
    rows = open_table(spark, [file for _, file in files])
    names = [name for name in rows.columns if name not in ("_path", "_block")]
    header = header_of_names(names, files[0][1].name, told.columns)
    raw = booking_lines.raw_columns(rows, header)
    price = header.names[header.places[booking_lines.PRICE.name]]
    # Numbers that are no text have no spelling.
    decimal = None if dict(rows.dtypes)[price] == "string" else numbers.POINT
    return _Group(header, tuple(files), raw, booking_lines.raw_text, is_text=False, decimal=decimal)


def _counted(group: _Group, told: FileSettings, rules: RowRules, tolerated: float) -> _Counted:
    """Count over each file of a group, in one pass over all of them, and decide how each is spelled."""
    from pyspark.sql import functions as F

    placed = group.rows.withColumn("_id", F.monotonically_increasing_id())
    seen = booking_lines.split_lines(placed, group.header) if group.is_text else placed
    highest = rules.ranges[booking_lines.PRICE.name][1]
    evidence = booking_lines.count_evidence(seen, group.header, group.text, highest)
    by_path = {None if path is None else path_of_row(path): found for path, found in evidence.items()}
    paths = [None if len(group.files) == 1 else file.path for _, file in group.files]
    assert set(by_path) <= set(paths), "every line is of a file that was listed"
    files = []
    for path, (order, file) in zip(paths, group.files, strict=True):
        # A table may have no rows.
        found = by_path.get(path, Evidence())
        orders = dates.decide_orders(found.dates, told.date_format, file.name, tolerated)
        label = group.header.label(booking_lines.PRICE.name)
        decimal = numbers.decide_decimal(found.numbers, group.decimal or told.decimal, file.name, label, tolerated)
        files.append((found, file, order, Format(orders, decimal)))
    return _Counted(group, placed, tuple(files))


def _numbered(spark: SparkSession, counted: _Counted) -> tuple[DataFrame, Format | None]:
    """Return a group's rows with their files and lines and the raw columns, and their format when they have one."""
    header, is_text = counted.group.header, counted.group.is_text
    if len(counted.files) == 1:
        evidence, file, order, form = counted.files[0]
        rows = booking_lines.in_one_file(counted.rows, evidence, file.name, order)
    else:
        several = [(evidence, file.name, order, form) for evidence, file, order, form in counted.files]
        rows, form = booking_lines.in_several_files(spark, counted.rows, several), None
    if is_text:
        odd = sum(evidence.odd_quotes for evidence, *_ in counted.files)
        rows = booking_lines.with_joined_lines(spark, rows, header, counted.files[0][1].name, odd)
        rows = booking_lines.parse_lines(rows, header)
    return rows, form


def _renamed(
    counted: Sequence[_Counted], rows: Sequence[DataFrame], known: Mapping[str, Collection[str]]
) -> dict[str, dict[str, str]]:
    """Return the spellings of categories that are replaced, and by which; a rare case costs another pass."""
    renamed = {}
    for name in CATEGORIES:
        in_files = set().union(*(evidence.spellings.get(name, ()) for one in counted for evidence, *_ in one.files))
        theirs = known.get(name, ())
        if len(in_files) > MAX_SPELLINGS or not (unclear := differing(in_files | set(theirs)) & in_files):
            continue
        taken = {same(spelling) for spelling in theirs}
        counts = dict.fromkeys(unclear, 1)
        if any(same(spelling) not in taken for spelling in unclear):
            counts = booking_lines.spelling_counts(rows, name, unclear)
        if found := replacements(counts, theirs):
            renamed[name] = found
    return renamed


def _notes(counted: Sequence[_Counted], renamed: Mapping[str, Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return what a user should know about how the files were read: what was decided, and what was left out."""
    files = [one for group in counted for one in group.files]
    notes = []
    orders = [order for _, _, _, form in files for order in form.orders.values()]
    if orders:
        notes.append(("dates", dates.describe(orders)))
    if any(form.decimal == "," for _, _, _, form in files):
        notes.append(("numbers", "with a decimal comma"))
    extra = dict.fromkeys(name for one in counted for name in one.group.header.extra)
    if extra:
        notes.append(("left out", f"columns {', '.join(list(extra)[:20])}"))
    for column, words in renamed.items():
        pairs = ", ".join(f"{old} → {new}" for old, new in sorted(words.items())[:5])
        notes.append(("one spelling", f"{column}: {pairs}"))
    return tuple(notes)
