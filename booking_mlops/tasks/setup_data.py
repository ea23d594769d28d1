"""`setup-data`: `Booking.csv` → bookings and bookings_rejected."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pandas as pd

from booking_mlops.config.checks import require, require_share
from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings import synthetic_data
from booking_mlops.core.bookings.quality import RowRules, check_header, raw_name, reason_sql, value_sql
from booking_mlops.core.bookings.schema import CANCELED, CSV_COLUMNS, CSV_HEADER, NOT_CANCELED, OPEN
from booking_mlops.core.bookings.status import StatusWords
from booking_mlops.core.bookings.tables import BOOKINGS
from booking_mlops.errors import DataQualityError
from booking_mlops.io.machine import Machine
from booking_mlops.io.spark import computed_once
from booking_mlops.io.tables import root_cause, spark_errors
from booking_mlops.services.bookings_writing import Delivery, Written, write_delivery
from booking_mlops.services.permissions import apply_schema_permissions
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.errors import AnalysisException
    from pyspark.sql import DataFrame


_BYTES_IN_A_LINE = 100


@dataclass(frozen=True)
class SetupDataConfig:
    """`setup-data`: which file to ingest, how it spells the status, and how many of its rows may be bad.

    With `mode: merge` the file's bookings are added or updated and the others stay. `snapshot` replaces all of them,
    and refuses when more than `max_removed_share` would go. Real bookings replace synthetic ones, never the reverse.
    `source_csv` is a path, `dbfs:/…` or `/Volumes/…`. When it is left out or nothing is there,
    `allow_synthetic_data` allows making `synthetic_rows` bookings (seed `synthetic_seed`) in its place.
    An arrival more than `max_days_ahead` after `env.as_of` is a bad row, since hotels take bookings for two years at
    most; so is one more than `max_days_back` before it, since 1900 and 1970 are what programs write for no date.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "ranges": "env.ranges",
        "make_data": "allow_synthetic_data",
        "made_rows": "synthetic_rows",
        "made_seed": "synthetic_seed",
    }

    env: EnvConfig
    source_csv: str | None = None
    allow_synthetic_data: bool = False
    synthetic_rows: int = 20_000
    synthetic_seed: int = 7
    max_rejected_share: float = 0.02
    mode: Literal["merge", "snapshot"] = "merge"
    max_removed_share: float = 0.1
    status_words: StatusWords = field(default_factory=StatusWords)
    max_days_ahead: int = 730
    max_days_back: int = 20 * 365

    def __post_init__(self) -> None:
        require(self.synthetic_rows > 0, f"synthetic_rows: {self.synthetic_rows} is not above 0")
        require_share("max_rejected_share", self.max_rejected_share)
        require_share("max_removed_share", self.max_removed_share)
        for name in ("max_days_ahead", "max_days_back"):
            require(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is below 0")


@dataclass(frozen=True)
class SetupDataResult(Result):
    """Lines read (without header and blank lines) = bookings + rejected; `states` counts the bookings by status.

    `total` bookings are in the table; `merged` says how many of the file's were added and changed, None for a snapshot.
    """

    source: str
    synthetic: bool
    as_of: date
    read: int
    bookings: int
    states: Mapping[str, int]
    rejected: int
    reasons: Mapping[str, int]
    total: int
    merged: tuple[int, int] | None
    bookings_version: int
    written: bool

    def summary(self) -> list[tuple[str, str]]:
        """Return the source, what became of its rows, and the version of `bookings`."""
        lines = [
            ("source", f"{self.source}{' (synthetic data)' if self.synthetic else ''}"),
            ("rows in", f"{self.read:,} read = {self.bookings:,} bookings + {self.rejected:,} rejected"),
        ]
        lines += [("", f"{count:,} × {reason}") for reason, count in self.reasons.items()]
        kept, cancelled, still_open = (self.states.get(state, 0) for state in (NOT_CANCELED, CANCELED, OPEN))
        lines.append(("as of", f"{self.as_of}: {kept:,} kept, {cancelled:,} cancelled, {still_open:,} open"))
        state = "" if self.written else " (up to date, nothing written)"
        what = "" if self.merged is None else f": {self.merged[0]:,} new, {self.merged[1]:,} changed"
        return [*lines, ("bookings", f"{self.total:,} rows, version {self.bookings_version}{what}{state}")]


class SetupData(Task[SetupDataConfig, SetupDataResult]):
    """Brings the file into the lake: every line becomes a booking, or a rejected row with its reason."""

    name = "setup-data"
    config_type = SetupDataConfig
    help = "Check Booking.csv and bring it into the lake; makes synthetic data when there is no file and it is allowed."

    @classmethod
    def input_bytes(cls, config: SetupDataConfig, machine: Machine) -> int:  # noqa: ARG003 (the parent's signature)
        """Return the size of the file, or about that of the synthetic data."""
        file = Path(config.source_csv or "").expanduser()
        return file.stat().st_size if file.is_file() else config.synthetic_rows * _BYTES_IN_A_LINE

    def run(self) -> SetupDataResult:
        """Read, check and write the file.

        Raises: DataQualityError when there is no file, it can't be read, or too many rows are bad; WriteFailed.
        """
        from pyspark.errors import AnalysisException

        source, synthetic, text = self._source()
        try:
            checked = checked_lines(source, text, self.rules)
            with computed_once(checked, self.session.machine) as lines:
                return self._ingest(source, synthetic, lines)
        except AnalysisException:
            # A query that Spark does not understand is our mistake, not the file's.
            raise
        except spark_errors() as error:
            # Writing has errors of its own, so what fails here is reading the file.
            cause = root_cause(error)
            raise DataQualityError(f"{source}: can't be read to its end: {cause}; nothing was written") from error

    @property
    def rules(self) -> RowRules:
        """What decides whether a line is a booking."""
        config, session = self.config, self.session
        return RowRules(
            ranges=session.env.all_ranges,
            status_words=config.status_words,
            as_of=session.as_of,
            max_days_ahead=config.max_days_ahead,
            max_days_back=config.max_days_back,
        )

    def _ingest(self, source: str, synthetic: bool, lines: DataFrame) -> SetupDataResult:
        from pyspark.sql import functions as F

        # Reasons are counted by kind: without the value and the line number, which differ from row to row.
        kind = "regexp_replace(reason, ' ?\"[^\"]*\"|, first on line [0-9]+', '') AS kind"
        state = "IF(reason = '', booking_status, '') AS state"
        kinds = (
            lines.selectExpr(kind, state, "xxhash64(line, raw_row) AS hash", "xxhash64(line, reason) AS judged")
            .groupBy("kind", "state")
            .agg(
                F.count("*").alias("rows"),
                F.expr("bit_xor(hash)").alias("content"),
                F.expr("bit_xor(judged)").alias("judged"),
            )
            .collect()
        )
        read = sum(row["rows"] for row in kinds)
        bad = sorted((row for row in kinds if row["kind"]), key=lambda row: (-row["rows"], row["kind"]))
        rejected = sum(row["rows"] for row in bad)
        reasons = {row["kind"]: row["rows"] for row in bad[:10]}
        self._require_enough_good_rows(source, read, rejected, reasons)
        content, judged = (
            f"{read}-{functools.reduce(operator.xor, (row[column] for row in kinds)) & (2**64 - 1):016x}"
            for column in ("content", "judged")
        )
        written = self._write(lines, source, synthetic, content, judged)
        apply_schema_permissions(self.session)
        return SetupDataResult(
            source=source,
            synthetic=synthetic,
            as_of=self.session.as_of,
            read=read,
            bookings=read - rejected,
            states={row["state"]: row["rows"] for row in kinds if not row["kind"]},
            rejected=rejected,
            reasons=reasons,
            total=self.session.tables.read(BOOKINGS.name).count(),
            merged=written.merged,
            bookings_version=self.session.tables.version(BOOKINGS.name),
            # Without rejected rows Delta makes no commit that could say that they were written.
            written=written.bookings or (written.rejected and rejected > 0),
        )

    def _require_enough_good_rows(self, source: str, read: int, rejected: int, reasons: Mapping[str, int]) -> None:
        if read == 0:
            raise DataQualityError(f"{source}: no rows below the header; nothing was written")
        if rejected / read > self.config.max_rejected_share:
            worst = "; ".join(f"{count:,} × {reason}" for reason, count in list(reasons.items())[:3])
            raise DataQualityError(
                f"{source}: {rejected:,} of {read:,} rows are bad ({rejected / read:.1%}, limit "
                f"{self.config.max_rejected_share:.1%}); nothing was written. Most often: {worst}"
            )

    def _write(self, lines: DataFrame, source: str, synthetic: bool, content: str, judged: str) -> Written:
        """Write both tables. `content` identifies the rows of the file, `judged` what was found wrong with each."""
        # Other reasons, other words, or a column that a new release brings, make other tables of the same file.
        words = self.config.status_words.normalized
        rules = repr((judged, words, [column.name for column in BOOKINGS.columns]))
        delivery = Delivery(source, synthetic, content, hashlib.sha256(rules.encode()).hexdigest()[:16])
        return write_delivery(
            self.session.tables,
            delivery,
            lines.where("reason = ''"),
            self._rejected(lines, source.rsplit("/", 1)[-1], content),
            snapshot=self.config.mode == "snapshot",
            max_removed_share=self.config.max_removed_share,
        )

    def _rejected(self, lines: DataFrame, name: str, content: str) -> DataFrame:
        from pyspark.sql import functions as F

        return lines.where("reason <> ''").select(
            F.lit(name).alias("source_file"),
            F.lit(content).alias("source_fingerprint"),
            F.col("line").alias("source_line"),
            "reason",
            "raw_row",
            F.lit(self.session.clock()).cast("timestamp").alias("rejected_at"),
        )

    def _source(self) -> tuple[str, bool, DataFrame]:
        """Return the source's name, whether it is synthetic, and its lines as column `value`, in order."""
        from pyspark.errors import AnalysisException

        path, allowed = self.config.source_csv, self.config.allow_synthetic_data
        if path is not None:
            try:
                text = self.session.spark.read.text(_spark_path(path))
                # Spark Connect looks for the file only when it is asked for something.
                _ = text.schema
                return path, False, text
            except AnalysisException as error:
                if _condition(error) != "PATH_NOT_FOUND":
                    raise
            if not allowed:
                raise DataQualityError(f"{path}: no such file; put Booking.csv there or change source_csv")
            self.log.warning("%s: no such file; synthetic data is made in its place", path)
        elif not allowed:
            raise DataQualityError(
                "source_csv is not set; set it to the path of Booking.csv, or set allow_synthetic_data to true"
            )
        rows, seed = self.config.synthetic_rows, self.config.synthetic_seed
        self.log.info("making %s synthetic bookings (seed %d)", f"{rows:,}", seed)
        lines = [",".join(CSV_HEADER)]
        for chunk in synthetic_data.synthetic_chunks(rows, seed):
            lines += synthetic_data.csv_lines(chunk, header=False)
        text = self.session.spark.createDataFrame(pd.DataFrame({"value": lines}))
        return f"made_{rows}_seed{seed}.csv", True, text


def checked_lines(source: str, text: DataFrame, rules: RowRules) -> DataFrame:
    """Return each line below the header: line (number in the file), raw_row, reason ('' when good), the typed columns.

    Raises: DataQualityError when the first line is not the header.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    numbered, header = _with_line_numbers(text)
    if header is None:
        raise DataQualityError(f"{source}: the file is empty; nothing was written")
    check_header(header, source)
    names = [column.name for column in CSV_COLUMNS]
    fields = ", ".join(f"`{name}` STRING" for name in (*map(raw_name, CSV_COLUMNS), "_cut"))
    parsed = (
        numbered.where("line > 1 AND trim(raw_row) <> ''")
        .withColumn("fields", F.from_csv("raw_row", fields, {"columnNameOfCorruptRecord": "_cut"}))
        .select("line", "raw_row", "fields.*")
    )
    judged = parsed.selectExpr(
        "*",
        "_cut IS NOT NULL AS _malformed",
        *[f"{value_sql(column, rules)} AS {column.name}" for column in CSV_COLUMNS],
    ).select("line", "raw_row", *names, F.expr(reason_sql(rules)).alias("reason"))
    # A bad row does not make a good one with the same ID a repetition.
    same_id = Window.partitionBy("booking_id", F.expr("reason = ''")).orderBy("line")
    first_line = judged.withColumn("_first", F.first("line").over(same_id))
    repeated = "concat('Booking_ID: repeated, first on line ', _first)"
    return first_line.withColumn("reason", F.expr(f"IF(reason = '' AND line <> _first, {repeated}, reason)"))


def _spark_path(path: str) -> str:
    """Return a path for Spark: a laptop's path as a file URI, any other URI or Databricks path as it is."""
    if ":/" in path or path.startswith(("/Volumes/", "/dbfs/", "/FileStore/")):
        return path
    return Path(path).expanduser().resolve().as_uri()


def _with_line_numbers(text: DataFrame) -> tuple[DataFrame, str | None]:
    """Return columns line (1 for the file's first line) and raw_row, and the first line; None when there is none.

    A row's number is its position within its partition, plus the rows of the partitions before.
    """
    from pyspark.sql import functions as F

    # Spark's id holds the partition in the upper bits and the position in the lower 33.
    part, position = "shiftright(_id, 33)", "(_id & 8589934591)"
    placed = text.withColumnRenamed("value", "raw_row").withColumn("_id", F.monotonically_increasing_id())
    # Collected as a list of one: other aggregates of text make Spark sort the rows.
    first = f"collect_list(CASE WHEN {position} = 0 THEN raw_row END)[0] AS first"
    counted = placed.groupBy(F.expr(part).alias("part")).agg(F.count("*").alias("rows"), F.expr(first))
    parts = sorted(counted.collect(), key=lambda row: row["part"])
    if not parts:
        return placed, None
    before, cases = 0, []
    for row in parts:
        cases.append(f"WHEN {row['part']} THEN {before}")
        before += row["rows"]
    lines = placed.selectExpr(f"{position} + CASE {part} {' '.join(cases)} END + 1 AS line", "raw_row")
    return lines, parts[0]["first"]


def _condition(error: AnalysisException) -> str | None:
    """Return the error's class as Spark names it; Spark 4 has renamed the method."""
    ask = getattr(error, "getCondition", error.getErrorClass)
    condition: str | None = ask()
    return condition
