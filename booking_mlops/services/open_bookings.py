"""The bookings that a hotel wants scores of: open, and yet to arrive."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.schema import OPEN
from booking_mlops.core.bookings.tables import BOOKINGS
from booking_mlops.io.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def open_features(tables: Tables, features: DataFrame, as_of: date, bookings_version: int | None = None) -> DataFrame:
    """Return the rows of `features` whose booking is open and arrives on the day `as_of` or later.

    The features hold no status, so the table `bookings` says which those are.

    Raises: MissingTable.
    """
    bookings = tables.read(BOOKINGS.name, bookings_version)
    still_open = bookings.where(f"booking_status = '{OPEN}' AND date_of_reservation >= DATE'{as_of}'")
    # The features' own arrival spares the join those of the past.
    ahead = features.where(f"arrival_date >= DATE'{as_of}'")
    return ahead.join(still_open.select("booking_id"), "booking_id", "left_semi")
