"""Writes what was read: bookings are added and updated, or all are replaced; rejected rows are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.tables import BOOKINGS, REJECTED
from booking_mlops.errors import DataQualityError
from booking_mlops.io.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_SYNTHETIC = "synthetic-"
"""Begins the fingerprint of synthetic bookings."""


@dataclass(frozen=True)
class Delivery:
    """What was read: its source, whether this program made it, and what identifies its rows.

    `content` identifies the rows as they are in the files, `rules` how they are read and what was found wrong.
    """

    source: str
    synthetic: bool
    content: str
    rules: str

    @property
    def fingerprint(self) -> str:
        """Return what identifies the tables made of it."""
        return f"{_SYNTHETIC if self.synthetic else ''}{self.content}-{self.rules}"


@dataclass(frozen=True)
class Written:
    """Whether rejected rows and bookings had to be written; how many bookings a merge has added and changed.

    `version` of `bookings` has `total` rows.
    """

    rejected: bool
    bookings: bool
    version: int
    total: int
    merged: tuple[int, int] | None = None


def write_delivery(
    tables: Tables,
    delivery: Delivery,
    bookings: DataFrame,
    rejected: DataFrame,
    *,
    snapshot: bool,
    max_removed_share: float,
) -> Written:
    """Write the rejected rows, then the bookings: merged into those that are there, or as a `snapshot` in their place.

    Real bookings take the place of synthetic ones, never the reverse.

    Raises: DataQualityError when bookings would be lost, before anything is written; WriteFailed.
    """
    real = holds_real_bookings(tables)
    if real and delivery.synthetic:
        _refuse_synthetic(tables, delivery)
    merge = real and not delivery.synthetic and not snapshot
    if real and not merge:
        _require_few_removed(tables, delivery.source, bookings, max_removed_share)
    # Rows that earlier files had rejected stay.
    of_this_delivery = f"source_fingerprint = '{delivery.content}'"
    rejected_written = tables.write_once(REJECTED, rejected, delivery.fingerprint, where=of_this_delivery)
    if merge:
        merged = _merged(tables, bookings, delivery.fingerprint)
        written = merged != (0, 0)
    else:
        merged, written = None, tables.write_once(BOOKINGS, bookings, delivery.fingerprint)
    return Written(rejected_written, written, *tables.version_and_rows(BOOKINGS.name, delivery.fingerprint), merged)


def _merged(tables: Tables, bookings: DataFrame, fingerprint: str) -> tuple[int, int]:
    """Merge the bookings; return how many were added and changed."""
    if tables.fingerprint(BOOKINGS.name) == fingerprint:
        # They are all there is.
        return 0, 0
    # Another fingerprint than a snapshot's: the same file as a snapshot would remove the other bookings.
    return tables.merge_once(BOOKINGS, bookings, f"{fingerprint}-merged")


def holds_real_bookings(tables: Tables) -> bool:
    """Say whether there are bookings, and not of the kind that this program makes."""
    if not tables.exists(BOOKINGS.name) or (tables.written_last(BOOKINGS.name) or "").startswith(_SYNTHETIC):
        return False
    return not tables.read(BOOKINGS.name).isEmpty()


def _refuse_synthetic(tables: Tables, delivery: Delivery) -> None:
    # A release whose fingerprints did not say "synthetic" may have made the same.
    if not (tables.fingerprint(BOOKINGS.name) or "").startswith(delivery.content):
        raise DataQualityError(
            f"{tables.full_name(BOOKINGS.name)} holds bookings that are not synthetic, and synthetic ones would "
            "replace them; nothing was written. Name the file in source_csv, or use another lake or schema"
        )


def _require_few_removed(tables: Tables, source: str, bookings: DataFrame, limit: float) -> None:
    there = tables.read(BOOKINGS.name)
    total = there.count()
    gone = there.join(bookings.select("booking_id"), "booking_id", "left_anti").count()
    if gone > limit * total:
        raise DataQualityError(
            f"{source}: {gone:,} of the {total:,} bookings are not in it ({gone / total:.1%}, max_removed_share is "
            f"{limit:.1%}) and mode: snapshot would remove them; nothing was written. mode: merge keeps them"
        )
