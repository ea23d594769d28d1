"""The columns of `Booking.csv`; the tables are in `tables.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from booking_mlops.table import Column

Kind = Literal["text", "whole", "flag", "decimal", "date", "status"]

CANCELED = "Canceled"
NOT_CANCELED = "Not_Canceled"
OPEN = "Open"


@dataclass(frozen=True)
class CsvColumn:
    """A column of `Booking.csv`: its header in the file, its name in the tables, and how its text is read."""

    header: str
    name: str
    kind: Kind
    comment: str

    @property
    def sql_type(self) -> str:
        """Return the Spark SQL type of the typed value."""
        return {"whole": "INT", "flag": "INT", "decimal": "DOUBLE", "date": "DATE"}.get(self.kind, "STRING")

    def as_column(self) -> Column:
        """Return the column as it is in a table."""
        return Column(self.name, self.sql_type, self.comment)


CSV_COLUMNS: tuple[CsvColumn, ...] = (
    CsvColumn("Booking_ID", "booking_id", "text", "Identifies the booking"),
    CsvColumn("number of adults", "number_of_adults", "whole", "Adults"),
    CsvColumn("number of children", "number_of_children", "whole", "Children"),
    CsvColumn("number of weekend nights", "number_of_weekend_nights", "whole", "Nights on a Saturday or Sunday"),
    CsvColumn("number of week nights", "number_of_week_nights", "whole", "Nights on a Monday to Friday"),
    CsvColumn("type of meal", "type_of_meal", "text", "Meal plan booked"),
    CsvColumn("car parking space", "car_parking_space", "flag", "1 when a parking space is asked for"),
    CsvColumn("room type", "room_type", "text", "Room type booked"),
    CsvColumn("lead time", "lead_time", "whole", "Days from booking to arrival"),
    CsvColumn("market segment type", "market_segment_type", "text", "Market segment the booking came through"),
    CsvColumn("repeated", "repeated", "flag", "1 when the guest stayed here before"),
    CsvColumn("P-C", "p_c", "whole", "Previous bookings the guest cancelled"),
    CsvColumn("P-not-C", "p_not_c", "whole", "Previous bookings the guest kept"),
    CsvColumn("average price", "average_price", "decimal", "Average price of a night"),
    CsvColumn("special requests", "special_requests", "whole", "Number of special requests"),
    CsvColumn("date of reservation", "date_of_reservation", "date", "Date of arrival"),
    CsvColumn("booking status", "booking_status", "status", f"{CANCELED}, {NOT_CANCELED} or {OPEN}"),
)

CSV_HEADER: tuple[str, ...] = tuple(column.header for column in CSV_COLUMNS)

LABEL = "is_canceled"
FEATURE_KEY = "feature_key"
