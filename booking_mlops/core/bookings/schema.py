"""The columns of `Booking.csv`; the tables are in `tables.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from booking_mlops.table import Column

Kind = Literal["text", "whole", "flag", "decimal", "date", "status"]

CANCELED = "Canceled"
NOT_CANCELED = "Not_Canceled"
OPEN = "Open"


@dataclass(frozen=True)
class CsvColumn:
    """A column of `Booking.csv`: its header in the file, its name in the tables, and how its text is read.

    `aliases` are other usual headers, among them those of the public file on Kaggle.
    """

    header: str
    name: str
    kind: Kind
    comment: str
    aliases: tuple[str, ...] = ()

    @property
    def sql_type(self) -> str:
        """Return the Spark SQL type of the typed value."""
        return {"whole": "INT", "flag": "INT", "decimal": "DOUBLE", "date": "DATE"}.get(self.kind, "STRING")

    def as_column(self) -> Column:
        """Return the column as it is in a table."""
        return Column(self.name, self.sql_type, self.comment)


CSV_COLUMNS: tuple[CsvColumn, ...] = (
    CsvColumn("Booking_ID", "booking_id", "text", "Identifies the booking"),
    CsvColumn("number of adults", "number_of_adults", "whole", "Adults", ("no_of_adults", "adults")),
    CsvColumn("number of children", "number_of_children", "whole", "Children", ("no_of_children", "children")),
    CsvColumn(
        "number of weekend nights",
        "number_of_weekend_nights",
        "whole",
        "Nights on a Saturday or Sunday",
        ("no_of_weekend_nights", "weekend_nights"),
    ),
    CsvColumn(
        "number of week nights",
        "number_of_week_nights",
        "whole",
        "Nights on a Monday to Friday",
        ("no_of_week_nights", "week_nights"),
    ),
    CsvColumn("type of meal", "type_of_meal", "text", "Meal plan booked", ("type_of_meal_plan", "meal_plan")),
    CsvColumn(
        "car parking space",
        "car_parking_space",
        "flag",
        "1 when a parking space is asked for",
        ("required_car_parking_space",),
    ),
    CsvColumn("room type", "room_type", "text", "Room type booked", ("room_type_reserved",)),
    CsvColumn("lead time", "lead_time", "whole", "Days from booking to arrival"),
    CsvColumn(
        "market segment type",
        "market_segment_type",
        "text",
        "Market segment the booking came through",
        ("market_segment",),
    ),
    CsvColumn(
        "repeated", "repeated", "flag", "1 when the guest stayed here before", ("repeated_guest", "is_repeated_guest")
    ),
    CsvColumn("P-C", "p_c", "whole", "Previous bookings the guest cancelled", ("no_of_previous_cancellations",)),
    CsvColumn(
        "P-not-C", "p_not_c", "whole", "Previous bookings the guest kept", ("no_of_previous_bookings_not_canceled",)
    ),
    CsvColumn(
        "average price",
        "average_price",
        "decimal",
        "Average price of a night",
        ("avg_price_per_room", "average_price_per_room"),
    ),
    CsvColumn(
        "special requests", "special_requests", "whole", "Number of special requests", ("no_of_special_requests",)
    ),
    CsvColumn(
        "date of reservation", "date_of_reservation", "date", "Date of arrival", ("arrival_date", "date_of_arrival")
    ),
    CsvColumn("booking status", "booking_status", "status", f"{CANCELED}, {NOT_CANCELED} or {OPEN}"),
)

DATE_PARTS: Mapping[str, tuple[str, ...]] = {
    "year": ("arrival_year", "year_of_arrival"),
    "month": ("arrival_month", "month_of_arrival"),
    "day": ("arrival_date", "arrival_day", "day_of_arrival"),
}
"""Headers of the three columns that together are the date of arrival in the public file on Kaggle."""

CSV_HEADER: tuple[str, ...] = tuple(column.header for column in CSV_COLUMNS)

LABEL = "is_canceled"
FEATURE_KEY = "feature_key"
