"""A Delta table's definition, and text in SQL: what `core` and `io` have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A table column: Spark SQL type, what it holds, and whether it may be empty."""

    name: str
    sql_type: str
    comment: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A Delta table: its columns, the key that identifies a row, and how it is partitioned."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    indexed_columns: int | None = None
    """The number of leading columns of which Delta keeps the range in each file; None leaves it to Delta."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(column.name for column in self.columns)


def sql_literal(text: str) -> str:
    """Return `text` as a string of Spark SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
