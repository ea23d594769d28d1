"""Delta tables: created once, written atomically, never dropped."""

from __future__ import annotations

import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from booking_mlops.errors import MissingTable, WriteFailed
from booking_mlops.io.spark import set_at_run_time
from booking_mlops.table import Table, sql_literal

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, DataFrameWriterV2, SparkSession

log = logging.getLogger(__name__)

COMMIT_NOTE = "spark.databricks.delta.commitInfo.userMetadata"
INDEXED_COLUMNS = "delta.dataSkippingNumIndexedCols"


def spark_errors() -> tuple[type[Exception], ...]:
    """Return the classes of error that Spark and Delta raise: some are Python's own, others come from Java."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JJavaError
    except ImportError:
        # Spark Connect's client alone comes without it.
        return (PySparkException,)
    return Py4JJavaError, PySparkException


def to_pandas(rows: DataFrame) -> pd.DataFrame:
    """Collect the rows on the driver.

    Errors are raised only; Spark would also print a page for each.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame: pd.DataFrame = rows.toPandas()
    # Spark Connect leaves its metrics here, and pandas can't write them to a file.
    frame.attrs.clear()
    return frame


def latest_day(rows: DataFrame, column: str, before: date = date.max, condition: str | None = None) -> date | None:
    """Return the latest date in `column` of the rows that meet `condition`: by default, of those before `before`.

    When all rows are before that day, the condition is not looked at: Delta's log has the answer.
    """
    latest = f"max({column}) AS day"
    newest: date | None = rows.selectExpr(latest).collect()[0]["day"]
    if newest is None or newest < before:
        return newest
    found: date | None = rows.where(condition or f"{column} < DATE'{before}'").selectExpr(latest).collect()[0]["day"]
    return found


@dataclass(frozen=True)
class _Commit:
    """A commit of a table: its version, the fingerprint it recorded, and how many rows it wrote where it says so."""

    version: int
    fingerprint: str | None
    rows_written: int | None


class Tables:
    """The Delta tables of one environment, by their short names.

    `primary_keys` says whether the catalog has primary keys: Unity Catalog on a cluster does, which makes a table with
    one a feature table there. `as_of`, the day the data stand for, is recorded with each commit that replaces rows.
    """

    def __init__(
        self, spark: SparkSession, database: str, *, primary_keys: bool = False, as_of: date | None = None
    ) -> None:
        self._spark = spark
        self._database = database
        self._primary_keys = primary_keys
        self._as_of = as_of

    def full_name(self, table: str) -> str:
        """Return the table's name for SQL."""
        return f"{self._database}.{table}"

    def exists(self, table: str) -> bool:
        """Say whether the table is there."""
        return bool(self._spark.catalog.tableExists(self.full_name(table)))

    def is_named_in(self, table: str, cause: str) -> bool:
        """Say whether the cause of an error is about a file of the table."""
        try:
            row = self._spark.sql(f"DESCRIBE DETAIL {self.full_name(table)}").first()
        except spark_errors():
            return False
        return row is not None and f"{row['location'].removeprefix('file:')}/" in cause

    def ensure(self, table: Table) -> None:
        """Create the table, empty, when it is not there; add the columns it lacks when it is."""
        if self.exists(table.name):
            self._add_missing_columns(table)
            return
        with self._writing(table.name):
            self._spark.sql(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        lines = [
            f"`{column.name}` {column.sql_type}{'' if column.nullable else ' NOT NULL'} "
            f"COMMENT {sql_literal(column.comment)}"
            for column in table.columns
        ]
        if self._primary_keys and table.key:
            lines.append(f"CONSTRAINT `{table.name}_pk` PRIMARY KEY ({', '.join(table.key)})")
        clauses = ["USING DELTA"]
        if table.partition_by:
            clauses.append(f"PARTITIONED BY ({', '.join(table.partition_by)})")
        clauses.append(f"COMMENT {sql_literal(table.comment)}")
        if table.indexed_columns is not None:
            clauses.append(f"TBLPROPERTIES ('{INDEXED_COLUMNS}' = '{table.indexed_columns}')")
        full = self.full_name(table.name)
        statement = f"CREATE TABLE IF NOT EXISTS {full} ({', '.join(lines)}) {' '.join(clauses)}"
        self._create(table.name, statement)
        log.info("created %s", full)

    def _create(self, table: str, statement: str) -> None:
        for wait in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 0.0):
            try:
                with self._writing(table):
                    self._spark.sql(statement)
                return
            except WriteFailed as error:
                if not wait or not (_is_conflict(error.__cause__) or _is_being_created(error.__cause__)):
                    raise
                # The other run is about to commit; then the statement finds its table.
                time.sleep(wait)

    def _add_missing_columns(self, table: Table) -> None:
        """Add the columns that this release has and the table has not: it is older, or somebody dropped them."""
        full = self.full_name(table.name)
        there = set(self._spark.table(full).columns)
        missing = [column for column in table.columns if column.name not in there]
        if not missing:
            return
        added = [f"`{column.name}` {column.sql_type} COMMENT {sql_literal(column.comment)}" for column in missing]
        with self._writing(table.name):
            self._spark.sql(f"ALTER TABLE {full} ADD COLUMNS ({', '.join(added)})")
        log.warning("%s had no column %s: added", full, ", ".join(column.name for column in missing))

    @contextmanager
    def _writing(self, table: str) -> Iterator[None]:
        """Turn an error of a write into one line. A Delta commit is whole or not there, so nothing is half-written."""
        try:
            yield
        except spark_errors() as error:
            if _is_conflict(error) or _is_being_created(error):
                why = "another run wrote it at the same time; run this one again"
            else:
                why = f"{root_cause(error)}; the table is as it was"
            raise WriteFailed(f"writing {self.full_name(table)}: {why}") from error

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """Return the table, as of a Delta version when one is given.

        Raises: MissingTable.
        """
        if not self.exists(table):
            raise MissingTable(f"table {self.full_name(table)} does not exist; run the task that writes it first")
        if version is None:
            return self._spark.table(self.full_name(table))
        return self._spark.sql(f"SELECT * FROM {self.full_name(table)} VERSION AS OF {int(version)}")

    def version(self, table: str) -> int:
        """Return the table's newest Delta version.

        Raises: MissingTable.
        """
        return self._last_commit(table).version

    def fingerprint(self, table: str) -> str | None:
        """Return the fingerprint that the last commit recorded; None when it recorded none."""
        return self._last_commit(table).fingerprint if self.exists(table) else None

    def version_and_rows(self, table: str, fingerprint: str) -> tuple[int, int]:
        """Return the table's newest version and how many rows that has.

        `fingerprint` is one that `write_once` recorded for the whole table: its commit says how many rows it wrote,
        which spares counting them. They are counted when another commit came later.
        """
        last = self._last_commit(table)
        if last.fingerprint == fingerprint and last.rows_written is not None:
            return last.version, last.rows_written
        return last.version, self.read(table, last.version).count()

    def written_last(self, table: str) -> str | None:
        """Return the newest fingerprint that a commit of the table recorded; later commits may have recorded none."""
        if not self.exists(table):
            return None
        history = self._spark.sql(f"DESCRIBE HISTORY {self.full_name(table)}").where("userMetadata IS NOT NULL")
        notes = (_fingerprint_in(row["userMetadata"]) for row in history.orderBy("version", ascending=False).collect())
        return next((note for note in notes if note is not None), None)

    def _last_commit(self, table: str) -> _Commit:
        if not self.exists(table):
            raise MissingTable(f"table {self.full_name(table)} does not exist; run the task that writes it first")
        row = self._spark.sql(f"DESCRIBE HISTORY {self.full_name(table)} LIMIT 1").first()
        assert row is not None, "a Delta table has at least one commit"
        written = (row["operationMetrics"] or {}).get("numOutputRows")
        return _Commit(
            int(row["version"]), _fingerprint_in(row["userMetadata"]), None if written is None else int(written)
        )

    def write_once(self, table: Table, frame: DataFrame, fingerprint: str, *, where: str = "true") -> bool:
        """Replace the rows that meet `where` by `frame`, and create the table when it is not there.

        Returns False, without writing, when the table's last commit recorded `fingerprint` already.
        """
        if self.fingerprint(table.name) == fingerprint:
            log.info("%s is up to date", table.name)
            return False
        self.ensure(table)
        log.info("writing %s", table.name)
        self.replace(table.name, frame, where=where, fingerprint=fingerprint)
        return True

    def replace(self, table: str, frame: DataFrame, *, where: str = "true", fingerprint: str | None = None) -> None:
        """Replace the rows that meet `where` by `frame`, in one commit: readers see all of it or nothing.

        `fingerprint` identifies what the rows were made from and is recorded with the commit.
        """
        from pyspark.sql import functions as F

        self._overwrite(table, frame, lambda writer: writer.overwrite(F.expr(where)), fingerprint)

    def replace_partitions(self, table: str, frame: DataFrame, *, fingerprint: str | None = None) -> bool:
        """Overwrite only the partitions present in `frame`, in half the time that `replace` takes.

        Returns False when another run has written the same meanwhile and nothing was written here.
        """
        return self._overwrite(table, frame, lambda writer: writer.overwritePartitions(), fingerprint)

    def _overwrite(
        self, table: str, frame: DataFrame, write: Callable[[DataFrameWriterV2], None], fingerprint: str | None
    ) -> bool:
        from pyspark.sql import functions as F

        schema = self._spark.table(self.full_name(table)).schema
        known = set(frame.columns)
        # A column that somebody added to the table stays; the rows written here leave it empty.
        columns = [
            F.col(field.name) if field.name in known else F.lit(None).cast(field.dataType).alias(field.name)
            for field in schema.fields
        ]
        writer = frame.select(*columns).writeTo(self.full_name(table)).option("userMetadata", self._note(fingerprint))
        return self._commit(table, lambda: write(writer), fingerprint)

    def _note(self, fingerprint: str | None) -> str:
        """Return what a commit says of itself, as JSON."""
        note = {"fingerprint": fingerprint, "as_of": self._as_of and self._as_of.isoformat()}
        return json.dumps({name: value for name, value in note.items() if value is not None})

    def _commit(self, table: str, write: Callable[[], object], fingerprint: str | None) -> bool:
        """Write; return False when another run has written the same meanwhile and nothing was written here."""
        try:
            with self._writing(table):
                write()
        except WriteFailed:
            if fingerprint is None or self.fingerprint(table) != fingerprint:
                raise
            log.info("another run has written the same to %s", self.full_name(table))
            return False
        return True

    def merge_once(self, table: Table, frame: DataFrame, fingerprint: str) -> tuple[int, int]:
        """Add the rows of `frame` whose key is new and update those that differ, in one commit; the others stay.

        Returns how many were added and changed. Nothing is written when the table's last commit recorded `fingerprint`.
        No other commit may be made in this session meanwhile, since it would record the same.
        """
        if self.fingerprint(table.name) == fingerprint:
            log.info("%s is up to date", table.name)
            return 0, 0
        self.ensure(table)
        log.info("merging into %s", table.name)
        before, rows = self.version(table.name), f"_rows_of_{table.name}"
        frame.select(*table.column_names).createOrReplaceTempView(rows)
        set_at_run_time(self._spark, COMMIT_NOTE, self._note(fingerprint))
        try:
            self._commit(
                table.name, lambda: self._spark.sql(_merge_sql(table, self.full_name(table.name), rows)), fingerprint
            )
        finally:
            set_at_run_time(self._spark, COMMIT_NOTE, None)
            self._spark.catalog.dropTempView(rows)
        after = self._spark.sql(f"DESCRIBE HISTORY {self.full_name(table.name)} LIMIT 1").first()
        if after is None or after["version"] == before:
            return 0, 0
        counts = after["operationMetrics"]
        return int(counts.get("numTargetRowsInserted", 0)), int(counts.get("numTargetRowsUpdated", 0))

    def replace_rows(
        self, table: str, rows: Sequence[Mapping[str, Any]], *, where: str, fingerprint: str | None = None
    ) -> None:
        """Replace the rows that meet `where` by a few rows given as mappings."""
        self.replace(table, self._frame(table, rows), where=where, fingerprint=fingerprint)

    def _frame(self, table: str, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
        schema = self._spark.table(self.full_name(table)).schema
        return self._spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)

    def append_new(self, table: str, rows: Sequence[Mapping[str, Any]], key: str) -> None:
        """Append the rows whose `key` is not in the table yet; rows that are there stay as they are.

        Appends never conflict with each other, so two runs can write at the same time.
        """
        from pyspark.sql import functions as F

        full = self.full_name(table)
        keys = F.col(key).isin([row[key] for row in rows])
        there = {row[key] for row in self._spark.table(full).where(keys).select(key).collect()}
        new = [row for row in rows if row[key] not in there]
        if new:
            with self._writing(table):
                self._frame(table, new).writeTo(full).append()


def _merge_sql(table: Table, target: str, source: str) -> str:
    keys = " AND ".join(f"old.`{name}` = new.`{name}`" for name in table.key)
    others = [name for name in table.column_names if name not in table.key]
    same = " AND ".join(f"old.`{name}` <=> new.`{name}`" for name in others)
    updates = ", ".join(f"old.`{name}` = new.`{name}`" for name in others)
    names = ", ".join(f"`{name}`" for name in table.column_names)
    values = ", ".join(f"new.`{name}`" for name in table.column_names)
    return (
        f"MERGE INTO {target} AS old USING {source} AS new ON {keys} "
        f"WHEN MATCHED AND NOT ({same}) THEN UPDATE SET {updates} "
        f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    )


def _fingerprint_in(note: str | None) -> str | None:
    """Return the fingerprint in what a commit says of itself; None when it says none, or somebody else wrote it."""
    try:
        found = json.loads(note) if note else None
    except ValueError:
        return None
    return found.get("fingerprint") if isinstance(found, dict) else None


def _is_conflict(error: BaseException | None) -> bool:
    """Say whether Delta refused because another writer committed first."""
    return "Concurrent" in _text(error) or "DELTA_CONCURRENT" in _text(error) or "ProtocolChanged" in _text(error)


def _is_being_created(error: BaseException | None) -> bool:
    """Say whether another run is creating the same table right now."""
    return "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION" in _text(error)


def root_cause(error: BaseException) -> str:
    """Return the innermost cause in one line, without the exceptions that wrap it."""
    causes = re.findall(r"Caused by: (.+)", _text(error))
    return message_of(causes[-1] if causes else _text(error).strip().splitlines()[0])


def message_of(line: str) -> str:
    """Return what a line of Spark says to a person: without class names, Spark 4's error class and its SQLSTATE."""
    line = re.sub(r"^\([\w.$]+\) ", "", line.strip())
    line = re.sub(r"^(?:[\w.$]+(?:Exception|Error|Throwable): )+", "", line)
    return re.sub(r"^\[[A-Z0-9_.]+\] | SQLSTATE: \w{5}$", "", line)[:300]


def _text(error: BaseException | None) -> str:
    java = getattr(error, "java_exception", None)
    trace = getattr(error, "_stackTrace", None) or getattr(error, "stackTrace", None)
    return f"{java.toString() if java is not None else ''} {error} {trace or ''}"
