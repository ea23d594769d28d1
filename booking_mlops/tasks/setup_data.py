"""`setup-data`: `Booking.csv` → bookings and bookings_rejected."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from booking_mlops.config.model import SetupDataConfig
from booking_mlops.core.bookings import synthetic_data
from booking_mlops.core.bookings.quality import check_header, raw_name, reason_sql, value_sql
from booking_mlops.core.bookings.schema import BOOKINGS, CSV_COLUMNS, CSV_HEADER, REJECTED
from booking_mlops.errors import DataQualityError
from booking_mlops.io.tables import at_once, root_cause
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.permissions import apply_schema_permissions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_BYTES_IN_A_LINE = 100


@dataclass(frozen=True)
class SetupDataResult(Result):
    """Lines read (without header and blank lines) = bookings + rejected."""

    source: str
    made: bool
    read: int
    bookings: int
    rejected: int
    reasons: Mapping[str, int]
    bookings_version: int
    written: bool

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        lines = [
            ("source", f"{self.source}{' (made data)' if self.made else ''}"),
            ("rows in", f"{self.read:,} read = {self.bookings:,} bookings + {self.rejected:,} rejected"),
        ]
        lines += [("", f"{count:,} × {reason}") for reason, count in self.reasons.items()]
        state = "" if self.written else " (up to date, nothing written)"
        return [*lines, ("bookings", f"{self.bookings:,} rows, version {self.bookings_version}{state}")]


class SetupData(Task[SetupDataConfig, SetupDataResult]):
    """Brings the file into the lake: every line is a booking or a rejected row with its reason."""

    name = "setup-data"
    config_type = SetupDataConfig
    help = "Check Booking.csv and bring it into the lake; makes data when there is no file."

    def bytes_to_read(self) -> int:
        """See `Task`."""
        file = Path(self.config.source_csv or "").expanduser()
        return file.stat().st_size if file.is_file() else self.config.made_rows * _BYTES_IN_A_LINE

    def run(self) -> SetupDataResult:
        """See `Task`."""
        from py4j.protocol import Py4JJavaError

        source, made, text = self._source()
        try:
            lines = self._checked_lines(source, text).persist()
            try:
                return self._ingest(source, made, lines)
            finally:
                lines.unpersist()
        except Py4JJavaError as error:
            # Everything but the file is known to be sound here: writing has errors of its own.
            cause = root_cause(error)
            raise DataQualityError(f"{source}: can't be read to its end: {cause}; nothing was written") from error

    def _ingest(self, source: str, made: bool, lines: DataFrame) -> SetupDataResult:
        from pyspark.sql import functions as F

        # The kind of problem: without the value or the line, which differ from row to row. Good rows have none.
        kind = "regexp_replace(reason, ' ?\"[^\"]*\"|, first on line [0-9]+', '') AS kind"
        kinds = (
            lines.selectExpr(kind, "xxhash64(line, raw_row) AS hash")
            .groupBy("kind")
            .agg(F.count("*").alias("rows"), F.expr("bit_xor(hash)").alias("content"))
            .collect()
        )
        read = sum(row["rows"] for row in kinds)
        bad = sorted((row for row in kinds if row["kind"]), key=lambda row: (-row["rows"], row["kind"]))
        rejected = sum(row["rows"] for row in bad)
        name = source.rsplit("/", 1)[-1]
        if read == 0:
            raise DataQualityError(f"{source}: no rows below the header; nothing was written")
        reasons = {row["kind"]: row["rows"] for row in bad[:10]}
        if rejected / read > self.config.max_rejected_share:
            worst = "; ".join(f"{count:,} × {reason}" for reason, count in list(reasons.items())[:3])
            raise DataQualityError(
                f"{source}: {rejected:,} of {read:,} rows are bad ({rejected / read:.1%}, limit "
                f"{self.config.max_rejected_share:.1%}); nothing was written. Most often: {worst}"
            )
        content = f"{read}-{functools.reduce(operator.xor, (row['content'] for row in kinds)) & (2**64 - 1):016x}"
        # A table that a release gave a new column is written again, and so is one under other ranges.
        rules = repr((sorted(self.config.ranges.items()), [column.name for column in BOOKINGS.columns]))
        fingerprint = f"{content}-{hashlib.sha256(rules.encode()).hexdigest()[:16]}"
        bookings = lines.where("reason = ''")
        # Only this file's rejected rows are replaced: what earlier files had rejected stays.
        of_this_file = f"source_fingerprint = '{content}'"
        rejects = self._rejected(lines, name, content)
        written = any(
            at_once(
                lambda: self.write_once(REJECTED, rejects, fingerprint, where=of_this_file),
                lambda: self.write_once(BOOKINGS, bookings, fingerprint),
            )
        )
        apply_schema_permissions(self)
        return SetupDataResult(
            source=source,
            made=made,
            read=read,
            bookings=read - rejected,
            rejected=rejected,
            reasons=reasons,
            bookings_version=self.lake.version(BOOKINGS.name),
            written=written,
        )

    def _rejected(self, lines: DataFrame, name: str, content: str) -> DataFrame:
        from pyspark.sql import functions as F

        return lines.where("reason <> ''").select(
            F.lit(name).alias("source_file"),
            F.lit(content).alias("source_fingerprint"),
            F.col("line").alias("source_line"),
            "reason",
            "raw_row",
            F.lit(self.clock()).cast("timestamp").alias("rejected_at"),
        )

    def _source(self) -> tuple[str, bool, DataFrame]:
        """Name of the source, whether it is made data, and its lines as column `value`, in order."""
        from pyspark.errors import AnalysisException

        path = self.config.source_csv
        if path is not None:
            try:
                return path, False, self.spark.read.text(_spark_path(path))
            except AnalysisException as error:
                if error.getErrorClass() != "PATH_NOT_FOUND":
                    raise
            if not self.config.make_data:
                raise DataQualityError(f"{path}: no such file; put Booking.csv there or change source_csv")
            self.log.warning("%s: no such file; data is made in its place", path)
        elif not self.config.make_data:
            raise DataQualityError("source_csv is not set; set it to the path of Booking.csv, or set make_data to true")
        rows, seed = self.config.made_rows, self.config.made_seed
        self.log.info("making %s bookings (seed %d)", f"{rows:,}", seed)
        lines = [",".join(CSV_HEADER)]
        for chunk in synthetic_data.make_chunks(rows, seed):
            lines += synthetic_data.as_lines(chunk, header=False)
        text = self.spark.createDataFrame(pd.DataFrame({"value": lines}))
        return f"made_{rows}_seed{seed}.csv", True, text

    def _checked_lines(self, source: str, text: DataFrame) -> DataFrame:
        """Each line below the header: line (number in the file), raw_row, reason ('' when good), the typed columns."""
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
            "*", "_cut IS NOT NULL AS _malformed", *[f"{value_sql(column)} AS {column.name}" for column in CSV_COLUMNS]
        ).select("line", "raw_row", *names, F.expr(reason_sql(self.config.ranges)).alias("reason"))
        # Only among good rows: a bad row must not take the ID of a good one with it.
        same_id = Window.partitionBy("booking_id", F.expr("reason = ''")).orderBy("line")
        first_line = judged.withColumn("_first", F.first("line").over(same_id))
        repeated = "concat('Booking_ID: repeated, first on line ', _first)"
        return first_line.withColumn("reason", F.expr(f"IF(reason = '' AND line <> _first, {repeated}, reason)"))


def _spark_path(path: str) -> str:
    """A path for Spark: a laptop's path as a file URI, any other URI or Databricks path as it is."""
    if ":/" in path or path.startswith(("/Volumes/", "/dbfs/", "/FileStore/")):
        return path
    return Path(path).expanduser().resolve().as_uri()


def _with_line_numbers(text: DataFrame) -> tuple[DataFrame, str | None]:
    """Columns line (1 for the file's first line) and raw_row; and the first line, None when there is none.

    A row's position within its partition comes from its id; the rows of earlier partitions are added.
    """
    from pyspark.sql import functions as F

    # The id is the partition in the upper bits and the position in the lower 33.
    part, position = "shiftright(_id, 33)", "(_id & 8589934591)"
    placed = text.withColumnRenamed("value", "raw_row").withColumn("_id", F.monotonically_increasing_id())
    # A list of one: other aggregates of text make Spark sort the rows.
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
