"""Delta tables: created once, written atomically, never dropped."""

from __future__ import annotations

import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from booking_mlops.errors import MissingTable, WriteFailed

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, DataFrameWriterV2, SparkSession

log = logging.getLogger(__name__)

INDEXED_COLUMNS = "delta.dataSkippingNumIndexedCols"

T = TypeVar("T")


def at_once(*actions: Callable[[], T]) -> list[T]:
    """What each action returns. They run side by side: one plans its write while another's rows are written.

    All are waited for; then the first one's error goes up.
    """
    with ThreadPoolExecutor(len(actions)) as pool:
        return [future.result() for future in [pool.submit(action) for action in actions]]


def spark_errors() -> tuple[type[Exception], ...]:
    """What Spark and Delta raise: some errors come as Python's own, others as Java's."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    return Py4JJavaError, PySparkException


def to_pandas(rows: DataFrame) -> pd.DataFrame:
    """The rows, here. What fails is raised; Spark would print a page of it as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame: pd.DataFrame = rows.toPandas()
    return frame


class Lake:
    """The tables of one environment, by their short names."""

    def __init__(self, spark: SparkSession, database: str) -> None:
        self._spark = spark
        self._database = database

    def full_name(self, table: str) -> str:
        """The table's name for SQL."""
        return f"{self._database}.{table}"

    def exists(self, table: str) -> bool:
        """Whether the table is there."""
        return bool(self._spark.catalog.tableExists(self.full_name(table)))

    def ensure(
        self,
        table: str,
        columns: Sequence[tuple[str, str, str, bool]],
        *,
        comment: str,
        partition_by: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
        primary_key: Sequence[str] = (),
    ) -> None:
        """Create the table, empty, when it is not there. `columns` are (name, SQL type, comment, nullable).

        `primary_key` is declared where the catalog supports it (Unity Catalog), which makes the
        table a feature table there.
        """
        if self.exists(table):
            self._add_missing_columns(table, columns)
            return
        self._spark.sql(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        lines = [
            f"`{name}` {sql_type}{'' if nullable else ' NOT NULL'} COMMENT {_literal(text)}"
            for name, sql_type, text, nullable in columns
        ]
        if primary_key:
            lines.append(f"CONSTRAINT `{table}_pk` PRIMARY KEY ({', '.join(primary_key)})")
        partitions = f" PARTITIONED BY ({', '.join(partition_by)})" if partition_by else ""
        pairs = ", ".join(f"{_literal(key)} = {_literal(value)}" for key, value in (properties or {}).items())
        self._create(
            table,
            f"CREATE TABLE IF NOT EXISTS {self.full_name(table)} ({', '.join(lines)}) "
            f"USING DELTA{partitions} COMMENT {_literal(comment)}{f' TBLPROPERTIES ({pairs})' if pairs else ''}",
        )
        log.info("created %s", self.full_name(table))

    def _create(self, table: str, statement: str) -> None:
        for wait in (0.5, 1.0, 2.0, 0.0):
            try:
                with self._writing(table):
                    self._spark.sql(statement)
                return
            except WriteFailed as error:
                if not wait or not _is_being_created(error.__cause__):
                    raise
                # By another run, which is about to commit; then the statement finds the table.
                time.sleep(wait)

    def _add_missing_columns(self, table: str, columns: Sequence[tuple[str, str, str, bool]]) -> None:
        """A column this release knows and the table does not: a newer release, or somebody dropped it."""
        there = set(self._spark.table(self.full_name(table)).columns)
        added = [
            f"`{name}` {sql_type} COMMENT {_literal(text)}" for name, sql_type, text, _ in columns if name not in there
        ]
        if added:
            with self._writing(table):
                self._spark.sql(f"ALTER TABLE {self.full_name(table)} ADD COLUMNS ({', '.join(added)})")
            log.warning("%s had no column %s: added", self.full_name(table), ", ".join(added))

    @contextmanager
    def _writing(self, table: str) -> Iterator[None]:
        """Turn what stops a write into one line. A Delta commit is whole or not there: nothing is half-written."""
        try:
            yield
        except spark_errors() as error:
            if _is_conflict(error):
                why = "another run wrote it at the same time; run this one again"
            else:
                why = f"{root_cause(error)}; the table is as it was"
            raise WriteFailed(f"writing {self.full_name(table)}: {why}") from error

    def read(self, table: str, version: int | None = None) -> DataFrame:
        """The table, as of a Delta version when one is given.

        Raises: MissingTable.
        """
        if not self.exists(table):
            raise MissingTable(f"table {self.full_name(table)} does not exist; run the task that writes it first")
        if version is None:
            return self._spark.table(self.full_name(table))
        return self._spark.sql(f"SELECT * FROM {self.full_name(table)} VERSION AS OF {int(version)}")

    def version(self, table: str) -> int:
        """The table's newest Delta version.

        Raises: MissingTable.
        """
        return self._last_commit(table)[0]

    def fingerprint(self, table: str) -> str | None:
        """What the last write said it stands for; None when it said nothing, or something else wrote last."""
        note = self._last_commit(table)[1] if self.exists(table) else None
        try:
            found = json.loads(note) if note else None
        except ValueError:
            return None
        return found.get("fingerprint") if isinstance(found, dict) else None

    def _last_commit(self, table: str) -> tuple[int, str | None]:
        if not self.exists(table):
            raise MissingTable(f"table {self.full_name(table)} does not exist; run the task that writes it first")
        row = self._spark.sql(f"DESCRIBE HISTORY {self.full_name(table)} LIMIT 1").first()
        assert row is not None, "a Delta table has at least one commit"
        return int(row["version"]), row["userMetadata"]

    def replace(self, table: str, frame: DataFrame, *, where: str = "true", fingerprint: str | None = None) -> None:
        """Put `frame` in the place of the rows that meet `where`, in one commit: readers see all of it or nothing.

        `fingerprint` is kept with the commit; `Lake.fingerprint` gives it back.
        """
        from pyspark.sql import functions as F

        self._overwrite(table, frame, lambda writer: writer.overwrite(F.expr(where)), fingerprint)

    def replace_partitions(self, table: str, frame: DataFrame, *, fingerprint: str | None = None) -> bool:
        """`replace` of the partitions that `frame` has rows in. Where that says what is meant it costs half.

        False when another run has written the same meanwhile, and nothing was written here.
        """
        return self._overwrite(table, frame, lambda writer: writer.overwritePartitions(), fingerprint)

    def _overwrite(
        self, table: str, frame: DataFrame, write: Callable[[DataFrameWriterV2], None], fingerprint: str | None
    ) -> bool:
        from pyspark.sql import functions as F

        schema = self._spark.table(self.full_name(table)).schema
        known = set(frame.columns)
        # A column somebody added to the table is theirs: it stays, empty in the rows written here.
        columns = [
            F.col(field.name) if field.name in known else F.lit(None).cast(field.dataType).alias(field.name)
            for field in schema.fields
        ]
        writer = frame.select(*columns).writeTo(self.full_name(table))
        if fingerprint is not None:
            writer = writer.option("userMetadata", json.dumps({"fingerprint": fingerprint}))
        try:
            with self._writing(table):
                write(writer)
        except WriteFailed:
            if fingerprint is None or self.fingerprint(table) != fingerprint:
                raise
            log.info("another run has written the same to %s", self.full_name(table))
            return False
        return True

    def replace_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, where: str) -> None:
        """`replace` with a few rows made here."""
        self.replace(table, self._frame(table, rows), where=where)

    def _frame(self, table: str, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
        schema = self._spark.table(self.full_name(table)).schema
        return self._spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)

    def append_new(self, table: str, rows: Sequence[Mapping[str, Any]], key: str) -> None:
        """Append the rows whose `key` is not there yet; those that are stay as they are.

        An append never conflicts with another, so two runs can write at once; a key is one run's own.
        """
        from pyspark.sql import functions as F

        full = self.full_name(table)
        keys = F.col(key).isin([row[key] for row in rows])
        there = {row[key] for row in self._spark.table(full).where(keys).select(key).collect()}
        new = [row for row in rows if row[key] not in there]
        if new:
            with self._writing(table):
                self._frame(table, new).writeTo(full).append()


def _is_conflict(error: BaseException | None) -> bool:
    """Whether Delta refused because somebody else committed first."""
    return "Concurrent" in _text(error) or "DELTA_CONCURRENT" in _text(error) or "ProtocolChanged" in _text(error)


def _is_being_created(error: BaseException | None) -> bool:
    """Whether somebody else is creating the same table right now."""
    return _is_conflict(error) or "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION" in _text(error)


def root_cause(error: BaseException) -> str:
    """The innermost cause in one line, without Spark's wrapping around it."""
    causes = re.findall(r"Caused by: (.+)", _text(error))
    found = causes[-1] if causes else _text(error).strip().splitlines()[0]
    return re.sub(r"^(?:[\w.$]+(?:Exception|Error): )+", "", found)[:300]


def _text(error: BaseException | None) -> str:
    java = getattr(error, "java_exception", None)
    trace = getattr(error, "_stackTrace", None) or getattr(error, "stackTrace", None)
    return f"{java.toString() if java is not None else ''} {error} {trace or ''}"


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
