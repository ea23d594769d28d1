"""The columns of `Booking.csv` and of every table: one place, used to read, check, create and document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "whole", "flag", "decimal", "date", "status"]

CANCELED = "Canceled"
NOT_CANCELED = "Not_Canceled"


@dataclass(frozen=True)
class Column:
    """A table column: Spark SQL type, what it holds, and whether it may be empty."""

    name: str
    sql_type: str
    comment: str
    nullable: bool = False


@dataclass(frozen=True)
class CsvColumn:
    """A column of `Booking.csv`: its header there, its name in the lake, how its text is read."""

    header: str
    name: str
    kind: Kind
    comment: str

    @property
    def sql_type(self) -> str:
        """The Spark SQL type of the typed value."""
        return {"whole": "INT", "flag": "INT", "decimal": "DOUBLE", "date": "DATE"}.get(self.kind, "STRING")

    def as_column(self) -> Column:
        """The same column as a table has it."""
        return Column(self.name, self.sql_type, self.comment)


@dataclass(frozen=True)
class Table:
    """A Delta table: its columns, the key that identifies a row, and how it is partitioned."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    indexed_columns: int | None = None
    """Of how many columns, from the first, Delta keeps the range of each file; None: as many as Delta likes."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(column.name for column in self.columns)


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
    CsvColumn("booking status", "booking_status", "status", f"{CANCELED} or {NOT_CANCELED}"),
)

CSV_HEADER: tuple[str, ...] = tuple(column.header for column in CSV_COLUMNS)

CATEGORICAL_FEATURES: tuple[str, ...] = ("type_of_meal", "room_type", "market_segment_type")

FEATURES: tuple[str, ...] = tuple(
    column.name for column in CSV_COLUMNS if column.name not in {"booking_id", "date_of_reservation", "booking_status"}
)
"""The model's 14 inputs, in table order. All are known when the booking is made."""

NUMERIC_FEATURES: tuple[str, ...] = tuple(name for name in FEATURES if name not in CATEGORICAL_FEATURES)

LABEL = "is_canceled"
FEATURE_KEY = "feature_key"

_BY_NAME = {column.name: column.as_column() for column in CSV_COLUMNS}
_KEY = _BY_NAME["booking_id"]

BOOKINGS = Table(
    "bookings",
    "Bookings as ingested: one typed row for each booking of the source file",
    tuple(column.as_column() for column in CSV_COLUMNS),
    key=("booking_id",),
)

REJECTED = Table(
    "bookings_rejected",
    "Lines of the source file that could not be used, with the reason",
    (
        Column("source_file", "STRING", "Name of the file the line came from"),
        Column("source_fingerprint", "STRING", "Identifies the content of that file"),
        Column("source_line", "BIGINT", "Line number in the file; the header is line 1"),
        Column("reason", "STRING", "What is wrong with the line"),
        Column("raw_row", "STRING", "The line as it was"),
        Column("rejected_at", "TIMESTAMP", "When the line was rejected"),
    ),
    key=("source_fingerprint", "source_line"),
)

FEATURE_TABLE = Table(
    "features",
    "What is known of a booking at the moment it is made; holds no label",
    (
        _KEY,
        *(_BY_NAME[name] for name in FEATURES),
        Column(FEATURE_KEY, "BIGINT", "xxhash64 of the feature values: equal for twins, decides holdout membership"),
        Column("booked_on", "DATE", "Point in time the features stand for: arrival minus lead time"),
        Column("arrival_date", "DATE", "Date of arrival, known at booking; not a model input"),
    ),
    key=("booking_id",),
)

LABELS = Table(
    "labels",
    "Whether a booking was cancelled; kept apart from the features",
    (
        _KEY,
        Column(LABEL, "INT", "1 when the booking was cancelled"),
        Column("event_date", "DATE", "Date by which the label is certain: the date of arrival"),
    ),
    key=("booking_id",),
)

PREDICTIONS = Table(
    "predictions",
    "Scores of the champion: one row for each booking and scoring day",
    (
        _KEY,
        Column("cancellation_probability", "DOUBLE", "Probability that the booking is cancelled, 0 to 1"),
        Column("prediction", "INT", "1 when the probability reaches the model's operating threshold"),
        Column("model_name", "STRING", "Registered model that scored the row"),
        Column("model_version", "BIGINT", "Its version"),
        Column("model_run_id", "STRING", "MLflow run that trained it"),
        Column("features_version", "BIGINT", "Delta version of the feature table that was read"),
        Column("scored_at", "TIMESTAMP", "When the row was scored"),
        Column("scored_on", "DATE", "Day of scored_at, UTC; scoring a day again replaces that day"),
    ),
    key=("booking_id", "scored_on"),
    partition_by=("scored_on",),
    # All rows of a day say the same from model_name on.
    indexed_columns=2,
)

PROMOTIONS = Table(
    "promotions",
    "Append-only history of every promotion decision",
    (
        Column("decision_id", "STRING", "Identifies the decision; a repeated run does not add it twice"),
        Column("decided_at", "TIMESTAMP", "When"),
        Column("principal", "STRING", "Who ran the task"),
        Column("git_commit", "STRING", "Commit of the code that decided"),
        Column("model_name", "STRING", "Registered model"),
        Column("challenger_version", "BIGINT", "Version that asked for promotion"),
        Column("champion_version", "BIGINT", "Champion before the decision", nullable=True),
        Column("champion_after", "BIGINT", "Champion after the decision", nullable=True),
        Column("decision", "STRING", "promoted, kept, rejected or rolled_back"),
        Column("reason", "STRING", "Why, in one line"),
        Column("metrics", "STRING", "JSON: every metric of both models with its interval"),
        Column("gates", "STRING", "JSON: each gate's name, value, limit, outcome and reason"),
    ),
    key=("decision_id",),
)

MONITORING = Table(
    "monitoring",
    "What model-monitor found: one row for each thing measured and day",
    (
        Column("checked_on", "DATE", "Day of checked_at, UTC; checking a day again replaces that day"),
        Column(
            "check_name", "STRING", "feature drift, domain classifier, score drift, data quality, live metrics, retrain"
        ),
        Column("subject", "STRING", "The feature, week, table or job it is about"),
        Column("statistic", "STRING", "What was measured: PSI, ROC AUC or share"),
        Column("value", "DOUBLE", "Its value; empty when there were too few rows", nullable=True),
        Column("level", "STRING", "ok, warn, alarm or too few"),
        Column("warn_from", "DOUBLE", "Where a warning begins; for live metrics, a drop below what was expected"),
        Column("alarm_from", "DOUBLE", "Where an alarm begins"),
        Column("rows", "BIGINT", "Rows it was measured on"),
        Column("reference_rows", "BIGINT", "Rows it was compared with"),
        Column("detail", "STRING", "What else there is to say"),
        Column("model_version", "BIGINT", "Champion at the time", nullable=True),
        Column("features_version", "BIGINT", "Delta version of the feature table that was looked at"),
        Column("checked_at", "TIMESTAMP", "When"),
    ),
    key=("checked_on", "check_name", "subject"),
)

TABLES: tuple[Table, ...] = (BOOKINGS, REJECTED, FEATURE_TABLE, LABELS, PREDICTIONS, PROMOTIONS, MONITORING)
