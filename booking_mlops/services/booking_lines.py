"""From the lines of files to bookings: numbered, counted, parsed, typed and judged, all of it by Spark.

Every function here is lazy but `count_evidence` and `with_joined_lines`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from booking_mlops.core.bookings import dates, numbers
from booking_mlops.core.bookings.evidence import Tally, tallied
from booking_mlops.core.bookings.header import DATE, PARTS, Header
from booking_mlops.core.bookings.quality import (
    DAY,
    ISO,
    REPLACED_BY,
    RowRules,
    is_special_sql,
    raw_name,
    readable_sql,
    reason_sql,
    value_sql,
)
from booking_mlops.core.bookings.records import MAX_LINES, joined_records
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.bookings.spelling import MAX_SPELLINGS
from booking_mlops.errors import DataQualityError
from booking_mlops.table import sql_literal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Row, SparkSession

CATEGORIES = tuple(column.name for column in CSV_COLUMNS if column.kind == "text")[1:]
PRICE = next(column for column in CSV_COLUMNS if column.kind == "decimal")
_SIGN_COLUMNS = {"/": "_slash", "-": "_dash", ".": "_point"}
_QUOTES = "(length(raw_row) - length(replace(raw_row, '\"', '')))"
MAX_JOINED = 200_000
"""So many lines with an odd number of quotes are looked at on the driver."""
MAX_REPEATED = 100_000
"""So many bookings with several lines go through the driver."""

BOOKING, BAD, REPLACED, EQUAL, UPDATED = "booking", "bad", "replaced", "equal", "updated"
STANDINGS = (BOOKING, BAD, REPLACED, EQUAL, UPDATED)
"""What became of a line: a booking; bad; replaced by a later line of its file; equal to the line that counts; or
replaced by a line of a later file."""


@dataclass(frozen=True)
class Block:
    """A part of a file that Spark reads at once: line = `_id` + `to_line`."""

    key: tuple[Any, ...]
    to_line: int


@dataclass(frozen=True)
class Evidence:
    """What was counted over a file: its rows, what its dates and numbers say, and its lines with an odd quote."""

    blocks: tuple[Block, ...] = ()
    rows: int = 0
    dates: Mapping[str, Tally] = field(default_factory=dict)
    numbers: Mapping[str, Tally] = field(default_factory=dict)
    spellings: Mapping[str, frozenset[str]] = field(default_factory=dict)
    odd_quotes: int = 0


@dataclass(frozen=True)
class Format:
    """How a file is spelled: the order of its dates by their sign, and its decimal sign."""

    orders: Mapping[str, str]
    decimal: str


def fields_sql(header: Header) -> Callable[[str], str]:
    """Return what gives SQL for the text of a column, or of a part of the date, from the columns of `split_lines`.

    It is NULL where there is none.
    """
    return lambda name: f"nullif(trim(get(_fields, {header.places[name]})), '')"


def split_lines(lines: DataFrame, header: Header, special: str = "contains(raw_row, '\"')") -> DataFrame:
    """Return the lines with `_fields`, their texts, and `_malformed` when they are not as many as the header's.

    Spark's parser of CSV reads the lines of which the SQL `special` is true. It takes several times as long as a split,
    which does the same to a line without quotes and control characters.
    """
    names = [f"c{place}" for place in range(len(header.names))]
    separator = sql_literal(header.separator)
    schema = sql_literal(", ".join(f"{name} STRING" for name in (*names, "_cut")))
    parsed = (
        f"from_csv(raw_row, {schema}, map('sep', {separator}, 'escape', '\"', 'ignoreLeadingWhiteSpace', 'true', "
        "'ignoreTrailingWhiteSpace', 'true', 'columnNameOfCorruptRecord', '_cut'))"
    )
    # Java splits without a pattern when it is one character, escaped or of no meaning.
    pattern = sql_literal(header.separator if header.separator.isalnum() else f"\\{header.separator}")
    texts = ", ".join(f"_parsed.{name}" for name in names)
    return (
        lines.selectExpr("*", f"IF({special}, {parsed}, NULL) AS _parsed")
        .selectExpr("*", f"IF(_parsed IS NULL, split(raw_row, {pattern}), array({texts})) AS _fields")
        .selectExpr("*", f"IF(_parsed IS NULL, size(_fields) <> {len(names)}, _parsed._cut IS NOT NULL) AS _malformed")
    )


def parse_lines(lines: DataFrame, header: Header) -> DataFrame:
    """Return the lines below the header with the raw columns, and `_malformed` as `split_lines` says."""
    below = lines.where(f"source_line > {header.line} AND trim(raw_row) <> ''")
    split = split_lines(below.selectExpr("*", f"{is_special_sql('raw_row')} AS _special"), header, "_special")
    return _with_raw_columns(split, lines.columns, header, fields_sql(header), "_special", "_malformed")


def raw_columns(rows: DataFrame, header: Header) -> DataFrame:
    """Return the rows of a table with the raw columns as text, and `raw_row` as JSON."""
    types = dict(rows.dtypes)

    def text(name: str) -> str:
        own = header.names[header.places[name]]
        quoted = f"`{own.replace('`', '``')}`"
        # A decimal's text has the noughts of its type.
        quoted = f"CAST({quoted} AS DOUBLE)" if types[own].startswith("decimal") else quoted
        return f"trim(CAST({quoted} AS STRING))"

    used = ", ".join(f"`{header.names[place].replace('`', '``')}`" for place in sorted(header.places.values()))
    kept = [name for name in ("_path", "_block") if name in rows.columns]
    with_json = rows.selectExpr("*", f"to_json(struct({used})) AS _raw_row")
    return _with_raw_columns(with_json, [*kept, "_raw_row"], header, text, "true", "false").withColumnRenamed(
        "_raw_row", "raw_row"
    )


def _with_raw_columns(
    rows: DataFrame, kept: Sequence[str], header: Header, text: Callable[[str], str], special: str, malformed: str
) -> DataFrame:
    in_parts = DATE not in header.places
    date = dates.in_parts_sql(*map(text, PARTS)) if in_parts else text(DATE)
    texts = {column.name: date if column.name == DATE else text(column.name) for column in CSV_COLUMNS}
    return rows.selectExpr(
        *(f"`{name}`" for name in kept),
        *(f"{texts[column.name]} AS {raw_name(column)}" for column in CSV_COLUMNS),
        f"{special} AS _special",
        f"{malformed} AS _malformed",
    )


def raw_text(name: str) -> str:
    """Return SQL for the text of a column in rows that have the raw columns."""
    return raw_name(next(column for column in CSV_COLUMNS if column.name == name))


def spelling_counts(rows: Sequence[DataFrame], column: str, spellings: Collection[str]) -> dict[str, int]:
    """Return how often each of the spellings of a category occurs in rows that have the raw columns."""
    from pyspark.sql import functions as F

    counts = dict.fromkeys(spellings, 0)
    for one in rows:
        text = F.col(raw_text(column))
        for row in one.where(text.isin(sorted(spellings))).groupBy(text.alias("spelling")).count().collect():
            counts[row["spelling"]] += row["count"]
    return counts


def count_evidence(
    lines: DataFrame, header: Header, text: Callable[[str], str], highest_price: float
) -> dict[str | None, Evidence]:
    """Return what is counted over each file, by its path in the rows: one pass.

    `lines` have `raw_row` and, of several files, `_path` and `_block`; `text` gives SQL for the text of a column.
    The path is None when `lines` are of one file.
    """
    from pyspark.sql import functions as F

    key = ["_path", "_block"] if "_path" in lines.columns else ["shiftright(_id, 33) AS _block"]
    date = text(DATE) if DATE in header.places else "''"
    counted = (
        lines.selectExpr(
            *key, "_id", f"{date} AS date", f"{text(PRICE.name)} AS number",
            *(f"{text(name)} AS {name}" for name in CATEGORIES),
            f"IF(contains(raw_row, '\"'), {_QUOTES}, 0) AS quotes",
        )
        .selectExpr(
            "*", f"{dates.class_sql('date')} AS dates", f"{numbers.class_sql('number', highest_price)} AS numbers",
            "quotes % 2 AS odd",
        )
        .groupBy(*(name.split(" AS ")[-1] for name in key), "dates", "numbers", "odd")
        .agg(
            F.count("*").alias("rows"),
            F.min("_id").alias("start"),
            F.min("date").alias("date"),
            F.min("number").alias("number"),
            # Sets of text also keep Spark from sorting the rows, as it does for the smallest text alone.
            *(F.expr(f"slice(collect_set({name}), 1, {MAX_SPELLINGS + 1})").alias(name) for name in CATEGORIES),
        )
        .collect()
    )  # fmt: skip
    by_file: dict[str | None, list[Row]] = {}
    for row in counted:
        by_file.setdefault(row["_path"] if "_path" in lines.columns else None, []).append(row)
    return {path: _evidence(path, rows) for path, rows in by_file.items()}


def _evidence(path: str | None, rows: Sequence[Row]) -> Evidence:
    blocks = sorted({row["_block"] for row in rows})
    before, placed = 0, []
    for block in blocks:
        own = [row for row in rows if row["_block"] == block]
        # A row's id holds Spark's partition in its upper bits, and its place there in the lower ones.
        placed.append(Block((block,) if path is None else (path, block), before - min(row["start"] for row in own) + 1))
        before += sum(row["rows"] for row in own)
    return Evidence(
        tuple(placed),
        before,
        tallied((row["dates"], row["rows"], row["date"]) for row in rows),
        tallied((row["numbers"], row["rows"], row["number"]) for row in rows),
        {name: frozenset(value for row in rows for value in row[name]) for name in CATEGORIES},
        sum(row["rows"] for row in rows if row["odd"]),
    )


def in_one_file(lines: DataFrame, evidence: Evidence, file_name: str, order: int) -> DataFrame:
    """Return the lines of one file with its name, its place among the files and their numbers."""
    cases = " ".join(f"WHEN {block.key[0]} THEN {block.to_line}" for block in evidence.blocks)
    return lines.selectExpr(
        f"{sql_literal(file_name)} AS source_file",
        f"{order} AS file_order",
        f"_id + CASE shiftright(_id, 33) {cases} END AS source_line",
        *(f"`{name}`" for name in lines.columns if name != "_id"),
    )


def in_several_files(
    spark: SparkSession, lines: DataFrame, files: Sequence[tuple[Evidence, str, int, Format]]
) -> DataFrame:
    """Return the lines of several files as `in_one_file` does, and each file's format in columns of its own."""
    from pyspark.sql import functions as F

    schema = "_path STRING, _block BIGINT, _to_line BIGINT, source_file STRING, file_order INT, _slash STRING, "
    schema += "_dash STRING, _point STRING, _decimal STRING"
    blocks = [
        (*block.key, block.to_line, name, order, *(form.orders.get(sign) for sign in _SIGN_COLUMNS), form.decimal)
        for evidence, name, order, form in files
        for block in evidence.blocks
    ]
    known = F.broadcast(spark.createDataFrame(blocks, schema))
    kept = [f"`{name}`" for name in lines.columns if name not in ("_id", "_path", "_block")]
    return lines.join(known, ["_path", "_block"]).selectExpr(
        "source_file", "file_order", "_id + _to_line AS source_line", *kept, *_SIGN_COLUMNS.values(), "_decimal"
    )


def with_joined_lines(spark: SparkSession, lines: DataFrame, header: Header, source: str, odd: int) -> DataFrame:
    """Return the lines with those put together that are one record: a quoted field of it goes over a line's end.

    `odd` is the number of lines with an odd number of quotes. Raises: DataQualityError when they are too many.
    """
    from pyspark.sql import functions as F

    if odd < 2:
        return lines
    if odd > MAX_JOINED:
        raise DataQualityError(
            f"{source}: {odd:,} lines have a quoted field that goes on in the next line, and at most {MAX_JOINED:,} "
            "can be put together; save the file without such fields, or as Parquet; nothing was written"
        )
    opening = f"{_QUOTES} % 2 = 1"
    places = lines.where(opening).select("file_order", "source_line").collect()
    spans = _spans([(row["file_order"], row["source_line"]) for row in places])
    wanted = F.broadcast(spark.createDataFrame(spans, "file_order INT, source_line BIGINT"))
    # As bytes: Spark Connect fails over text that is not UTF-8.
    as_bytes = lines.withColumn("raw_row", F.col("raw_row").cast("binary"))
    found = as_bytes.join(wanted, ["file_order", "source_line"]).select(*lines.columns).collect()
    by_file: dict[int, dict[int, Row]] = {}
    for row in found:
        by_file.setdefault(row["file_order"], {})[row["source_line"]] = row
    together, taken = [], []
    for order, rows in by_file.items():
        texts = {number: row["raw_row"].decode("utf-8", errors="replace") for number, row in rows.items()}
        for record in joined_records(texts, len(header.names), header.separator):
            taken += [(order, number) for number in range(record.first, record.last + 1)]
            together.append({**rows[record.first].asDict(), "raw_row": record.text})
    if not together:
        return lines
    gone = F.broadcast(spark.createDataFrame(taken, "file_order INT, source_line BIGINT"))
    joined = spark.createDataFrame([tuple(row[name] for name in lines.columns) for row in together], lines.schema)
    return lines.join(gone, ["file_order", "source_line"], "left_anti").select(*lines.columns).union(joined)


def _spans(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the numbers of all lines from one with an odd quote to the next, when that is near enough."""
    ordered = sorted(places)
    lines = set(ordered)
    for (file, first), (next_file, last) in pairwise(ordered):
        if file == next_file and last - first < MAX_LINES:
            lines.update((file, number) for number in range(first, last))
    return sorted(lines)


def judged_lines(
    rows: DataFrame, header: Header, rules: RowRules, form: Format | None, renamed: Mapping[str, Mapping[str, str]]
) -> DataFrame:
    """Return the rows with typed columns and `reason`, '' when a row is good.

    `form` is how their file is spelled; None when columns of the rows say it. `renamed` maps spellings of a category to
    the one that counts, by column.
    """
    from pyspark.sql import functions as F

    decimal = "_decimal" if form is None else sql_literal(form.decimal)
    orders = _SIGN_COLUMNS if form is None else {sign: sql_literal(order) for sign, order in form.orders.items()}
    date = raw_name(next(column for column in CSV_COLUMNS if column.name == DATE))
    typed = []
    for column in CSV_COLUMNS:
        value = value_sql(column, rules, decimal)
        if renamed.get(column.name):
            words = ", ".join(f"{sql_literal(old)}, {sql_literal(new)}" for old, new in renamed[column.name].items())
            value = f"coalesce(try_element_at(map({words}), {value}), {value})"
        typed.append(f"{value} AS {column.name}")
    return (
        rows.selectExpr("*", f"{dates.day_sql(date)} AS {DAY}")
        .selectExpr("*", f"{dates.iso_sql(DAY, orders)} AS {ISO}")
        .selectExpr("*", *typed)
        .selectExpr(
            "source_file", "file_order", "source_line", "raw_row", *(column.name for column in CSV_COLUMNS),
            f"{reason_sql(rules, header)} AS reason",
        )
        .withColumn("raw_row", F.expr(readable_sql("raw_row", "reason")))
    )  # fmt: skip


def with_standing(judged: DataFrame, *, kept: bool) -> DataFrame:
    """Return the lines with `standing`, what became of each: the last good line of a booking is the one that counts.

    A later file wins over an earlier one. A line that a later one of its file replaces gets that as its reason.
    `kept` says that Spark keeps the lines: then the bookings with several lines are looked for first, and only their
    lines sorted, since to sort all takes longer than to read them.
    """
    from pyspark.sql import functions as F

    if not kept:
        return _with_last_line(judged)
    with_key = judged.withColumn("_key", F.xxhash64("booking_id"))
    counted = with_key.where("reason = ''").groupBy("_key").count()
    repeated = counted.where("count > 1").select("_key").limit(MAX_REPEATED + 1).collect()
    if len(repeated) > MAX_REPEATED:
        return _with_last_line(judged)
    alone = f"IF(reason = '', '{BOOKING}', '{BAD}') AS standing"
    if not repeated:
        return judged.selectExpr("*", alone)
    keys = F.broadcast(judged.sparkSession.createDataFrame(repeated, "_key BIGINT"))
    others = with_key.join(keys, "_key", "left_anti").drop("_key").selectExpr("*", alone)
    return others.unionByName(_with_last_line(with_key.join(keys, "_key", "left_semi").drop("_key")))


def _with_last_line(judged: DataFrame) -> DataFrame:
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    # A bad row does not take the place of a good one.
    newest_first = Window.partitionBy("booking_id", F.expr("reason = ''")).orderBy(
        F.desc("file_order"), F.desc("source_line")
    )
    content = f"xxhash64({', '.join(column.name for column in CSV_COLUMNS)})"
    last = F.first(F.expr("struct(file_order, source_line, _content)")).over(newest_first)
    standing = (
        f"CASE WHEN reason <> '' THEN '{BAD}' "
        f"WHEN file_order = _last.file_order AND source_line = _last.source_line THEN '{BOOKING}' "
        f"WHEN _last._content = _content THEN '{EQUAL}' "
        f"WHEN file_order = _last.file_order THEN '{REPLACED}' ELSE '{UPDATED}' END"
    )
    replaced = f"IF(standing = '{REPLACED}', concat('{REPLACED_BY}', _last.source_line), reason)"
    marked = (
        judged.withColumn("_content", F.expr(content))
        .withColumn("_last", last)
        .withColumn("standing", F.expr(standing))
    )
    return marked.withColumn("reason", F.expr(replaced)).drop("_last", "_content")
