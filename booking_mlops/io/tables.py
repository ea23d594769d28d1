"""Delta tables: created once, written atomically, never dropped."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from booking_mlops.errors import MissingTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


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
        primary_key: Sequence[str] = (),
    ) -> None:
        """Create the table, empty, when it is not there. `columns` are (name, SQL type, comment, nullable).

        `primary_key` is declared where the catalog supports it (Unity Catalog), which makes the
        table a feature table there.
        """
        if self.exists(table):
            return
        self._spark.sql(f"CREATE DATABASE IF NOT EXISTS {self._database}")
        lines = [
            f"`{name}` {sql_type}{'' if nullable else ' NOT NULL'} COMMENT {_literal(text)}"
            for name, sql_type, text, nullable in columns
        ]
        if primary_key:
            lines.append(f"CONSTRAINT `{table}_pk` PRIMARY KEY ({', '.join(primary_key)})")
        partitions = f" PARTITIONED BY ({', '.join(partition_by)})" if partition_by else ""
        self._spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.full_name(table)} ({', '.join(lines)}) "
            f"USING DELTA{partitions} COMMENT {_literal(comment)}"
        )
        log.info("created %s", self.full_name(table))

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

        columns = self._spark.table(self.full_name(table)).columns
        writer = frame.select(*columns).writeTo(self.full_name(table))
        if fingerprint is not None:
            writer = writer.option("userMetadata", json.dumps({"fingerprint": fingerprint}))
        writer.overwrite(F.expr(where))

    def replace_rows(self, table: str, rows: Sequence[Mapping[str, Any]], *, where: str) -> None:
        """`replace` with a few rows made here."""
        self.replace(table, self._frame(table, rows), where=where)

    def _frame(self, table: str, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
        schema = self._spark.table(self.full_name(table)).schema
        return self._spark.createDataFrame([tuple(row[name] for name in schema.names) for row in rows], schema)

    def append_new(self, table: str, rows: Sequence[dict[str, Any]], key: str) -> None:
        """Append the rows whose `key` is not there yet; those that are stay as they are."""
        full = self.full_name(table)
        self._frame(table, rows).createOrReplaceTempView("_new_rows")
        self._spark.sql(
            f"MERGE INTO {full} AS t USING _new_rows AS n ON t.{key} = n.{key} WHEN NOT MATCHED THEN INSERT *"
        )
        self._spark.catalog.dropTempView("_new_rows")


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
