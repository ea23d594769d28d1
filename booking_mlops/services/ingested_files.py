"""Remembers which files `setup-data` has read, so that of a folder or a pattern each is read once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone

from booking_mlops.core.bookings.tables import INGESTED_FILES
from booking_mlops.io.source_files import SourceFile
from booking_mlops.io.tables import Tables
from booking_mlops.table import sql_literal

_EPOCH = datetime.fromtimestamp(0, timezone.utc)


def unread_files(tables: Tables, files: Sequence[SourceFile]) -> list[SourceFile]:
    """Return the files that were not read yet, or that have changed since."""
    if not tables.exists(INGESTED_FILES.name):
        return list(files)
    # As a number: how Spark hands over a timestamp depends on the machine's time zone.
    read = tables.read(INGESTED_FILES.name).selectExpr("path", "unix_micros(modified_at) AS modified", "size")
    known = {(row["path"], row["modified"], row["size"]) for row in read.collect()}
    return [file for file in files if (file.path, _microseconds(file.modified), file.size) not in known]


def record_files(tables: Tables, files: Sequence[SourceFile], ingested_at: datetime, as_of: date) -> None:
    """Record that the files were read.

    Raises: WriteFailed.
    """
    tables.ensure(INGESTED_FILES)
    rows = [
        {
            "path": file.path,
            "modified_at": file.modified,
            "size": file.size,
            "ingested_at": ingested_at,
            "as_of": as_of,
        }
        for file in files
    ]
    paths = ", ".join(sql_literal(file.path) for file in files)
    tables.replace_rows(INGESTED_FILES.name, rows, where=f"path IN ({paths})")


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
