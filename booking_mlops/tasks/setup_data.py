"""`setup-data`: `Booking.csv` → bookings and bookings_rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from booking_mlops.config.model import SetupDataConfig
from booking_mlops.core import made_data
from booking_mlops.core.quality import check_header, check_ranges_known, raw_name, reason_sql, value_sql
from booking_mlops.core.schema import BOOKINGS, CSV_COLUMNS, CSV_HEADER, REJECTED
from booking_mlops.errors import DataQualityError
from booking_mlops.io.tables import root_cause
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.permissions import apply_schema_permissions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


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

    def run(self) -> SetupDataResult:
        """See `Task`."""
        from py4j.protocol import Py4JJavaError

        check_ranges_known(self.config.ranges)
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

        counts = lines.agg(
            F.count("*").alias("read"),
            F.count(F.expr("CASE WHEN reason <> '' THEN 1 END")).alias("rejected"),
            F.coalesce(F.expr("bit_xor(xxhash64(line, raw_row))"), F.lit(0)).alias("content"),
        ).first()
        assert counts is not None, "an aggregate always has a row"
        read, rejected = int(counts["read"]), int(counts["rejected"])
        name = source.rsplit("/", 1)[-1]
        if read == 0:
            raise DataQualityError(f"{source}: no rows below the header; nothing was written")
        reasons = {
            row["kind"]: int(row["count"])
            for row in lines.where("reason <> ''")
            # The kind of problem: without the value or the line, which differ from row to row.
            .selectExpr("regexp_replace(reason, ' ?\"[^\"]*\"|, first on line [0-9]+', '') AS kind")
            .groupBy("kind")
            .count()
            .orderBy(F.desc("count"), "kind")
            .limit(10)
            .collect()
        }
        if rejected / read > self.config.max_rejected_share:
            worst = "; ".join(f"{count:,} × {reason}" for reason, count in list(reasons.items())[:3])
            raise DataQualityError(
                f"{source}: {rejected:,} of {read:,} rows are bad ({rejected / read:.1%}, limit "
                f"{self.config.max_rejected_share:.1%}); nothing was written. Most often: {worst}"
            )
        content = f"{read}-{int(counts['content']) & (2**64 - 1):016x}"
        rules = hashlib.sha256(repr((sorted(self.config.ranges.items()),)).encode()).hexdigest()[:16]
        fingerprint = f"{content}-{rules}"
        self.ensure_table(REJECTED)
        self.ensure_table(BOOKINGS)
        written = self.lake.fingerprint(BOOKINGS.name) != fingerprint
        if written:
            self.log.info("writing %s rejected rows and %s bookings", f"{rejected:,}", f"{read - rejected:,}")
            self._write_rejected(lines, name, content)
            self.lake.replace(BOOKINGS.name, lines.where("reason = ''"), fingerprint=fingerprint)
        else:
            self.log.info("bookings hold this file already")
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

    def _write_rejected(self, lines: DataFrame, name: str, content: str) -> None:
        from pyspark.sql import functions as F

        rows = lines.where("reason <> ''").select(
            F.lit(name).alias("source_file"),
            F.lit(content).alias("source_fingerprint"),
            F.col("line").alias("source_line"),
            "reason",
            "raw_row",
            F.lit(self.clock()).cast("timestamp").alias("rejected_at"),
        )
        # Only this file's rows are replaced: what earlier files had rejected stays.
        self.lake.replace(REJECTED.name, rows, where=f"source_fingerprint = '{content}'")

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
        for chunk in made_data.make_chunks(rows, seed):
            lines += made_data.as_lines(chunk, header=False)
        text = self.spark.createDataFrame(pd.DataFrame({"value": lines}))
        return f"made_{rows}_seed{seed}.csv", True, text

    def _checked_lines(self, source: str, text: DataFrame) -> DataFrame:
        """Each line below the header: line (number in the file), raw_row, reason ('' when good), the typed columns."""
        from pyspark.sql import Window
        from pyspark.sql import functions as F

        first = text.first()
        if first is None:
            raise DataQualityError(f"{source}: the file is empty; nothing was written")
        check_header(first["value"], source)
        names = [column.name for column in CSV_COLUMNS]
        fields = ", ".join(f"`{name}` STRING" for name in (*map(raw_name, CSV_COLUMNS), "_cut"))
        parsed = (
            _with_line_numbers(text)
            .where("line > 1 AND trim(raw_row) <> ''")
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


def _with_line_numbers(text: DataFrame) -> DataFrame:
    """Columns line (1 for the file's first line) and raw_row.

    A row's position within its partition comes from its id; the rows of earlier partitions are added.
    """
    from pyspark.sql import functions as F

    placed = text.withColumnRenamed("value", "raw_row").withColumn("_id", F.monotonically_increasing_id())
    per_partition = {
        int(row["part"]): int(row["count"])
        for row in placed.groupBy(F.shiftright("_id", 33).alias("part")).count().collect()
    }
    before, offsets = 0, {}
    for part in sorted(per_partition):
        offsets[part] = before
        before += per_partition[part]
    cases = " ".join(f"WHEN {part} THEN {offset}" for part, offset in offsets.items())
    return placed.selectExpr(
        # The id is the partition in the upper bits and the position in the lower 33.
        f"(_id & 8589934591) + CASE shiftright(_id, 33) {cases} END + 1 AS line",
        "raw_row",
    )
