"""The project's Delta tables: used to create, document and check them."""

from __future__ import annotations

from booking_mlops.core.bookings.features import FEATURES
from booking_mlops.core.bookings.schema import CSV_COLUMNS, FEATURE_KEY, LABEL
from booking_mlops.table import Column, Table

_BOOKING_ID = CSV_COLUMNS[0].as_column()

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

INGESTED_FILES = Table(
    "ingested_files",
    "Files that setup-data has read: of a folder or a pattern each is read once",
    (
        Column("path", "STRING", "Where the file is"),
        Column("modified_at", "TIMESTAMP", "When it was changed last"),
        Column("size", "BIGINT", "Its bytes; the version of a Delta table"),
        Column("ingested_at", "TIMESTAMP", "When it was read"),
        Column("as_of", "DATE", "Day the data stood for"),
    ),
    key=("path",),
)

FEATURE_TABLE = Table(
    "features",
    "What is known of a booking at the moment it is made; holds no label",
    (
        _BOOKING_ID,
        *(Column(feature.name, feature.sql_type, feature.comment) for feature in FEATURES),
        Column(
            FEATURE_KEY, "BIGINT", "xxhash64 of the raw feature values: equal for twins, decides holdout membership"
        ),
        Column("booked_on", "DATE", "Point in time the features stand for: arrival minus lead time"),
        Column("arrival_date", "DATE", "Date of arrival, known at booking; not a model input"),
    ),
    key=("booking_id",),
)

LABELS = Table(
    "labels",
    "Whether a booking was cancelled: only of those with an outcome whose day of arrival is past",
    (
        _BOOKING_ID,
        Column(LABEL, "INT", "1 when the booking was cancelled"),
        Column("event_date", "DATE", "Date by which the label is certain: the date of arrival"),
    ),
    key=("booking_id",),
)

PREDICTIONS = Table(
    "predictions",
    "Scores of the champion: one row for each booking and scoring day",
    (
        _BOOKING_ID,
        Column("cancellation_probability", "DOUBLE", "Probability that the booking is cancelled, 0 to 1"),
        Column("prediction", "INT", "1 when the probability reaches the model's operating threshold"),
        Column("model_name", "STRING", "Registered model that scored the row"),
        Column("model_version", "BIGINT", "Its version"),
        Column("model_run_id", "STRING", "MLflow run that trained it"),
        Column("features_version", "BIGINT", "Delta version of the feature table that was read"),
        Column("scored_at", "TIMESTAMP", "When the row was scored"),
        Column("scored_on", "DATE", "Day the scores are of, as_of; scoring a day again replaces that day"),
        Column("as_of", "DATE", "Day the data stood for"),
        Column("was_open", "BOOLEAN", "Whether the booking was open and yet to arrive when it was scored"),
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
        Column("decision", "STRING", "promoted, waiting, approved, kept, rejected or rolled_back"),
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
        Column(
            "value",
            "DOUBLE",
            "Its value; empty when there were too few rows. Of a retraining the started run's id",
            nullable=True,
        ),
        Column("level", "STRING", "ok, warn, alarm or too few"),
        Column("warn_from", "DOUBLE", "Where a warning begins; for live metrics, a drop below what was expected"),
        Column("alarm_from", "DOUBLE", "Where an alarm begins"),
        Column("rows", "BIGINT", "Rows it was measured on"),
        Column("reference_rows", "BIGINT", "Rows it was compared with"),
        Column("detail", "STRING", "What else there is to say"),
        Column("model_version", "BIGINT", "Champion at the time", nullable=True),
        Column("features_version", "BIGINT", "Delta version of the feature table that was looked at"),
        Column("checked_at", "TIMESTAMP", "When"),
        Column(
            "reference_version",
            "BIGINT",
            "Version whose training knew what the bookings were compared with",
            nullable=True,
        ),
    ),
    key=("checked_on", "check_name", "subject"),
)

OUTLOOK = Table(
    "outlook",
    "What is to be expected of the open bookings: one row for each day as_of and date of arrival ahead",
    (
        Column("as_of", "DATE", "Day the outlook is of; making that day's again replaces it"),
        Column("arrival_date", "DATE", "Date of arrival ahead"),
        Column("open_bookings", "BIGINT", "Open bookings that arrive on that date"),
        Column("expected_cancellations", "DOUBLE", "How many of them to expect cancelled, corrected by the backtest"),
        Column("lower_cancellations", "BIGINT", "Lower bound of the cancellations, of the interval in coverage"),
        Column("upper_cancellations", "BIGINT", "Upper bound of the cancellations"),
        Column("coverage", "DOUBLE", "Least probability that the cancellations are within the bounds"),
        Column("uncorrected_cancellations", "DOUBLE", "Sum of the model's own probabilities"),
        Column("nights", "BIGINT", "Nights of the open bookings"),
        Column("nights_at_stake", "DOUBLE", "Nights expected to be cancelled"),
        Column("value", "DOUBLE", "Price of all those nights"),
        Column("value_at_stake", "DOUBLE", "Value expected to be cancelled"),
        Column("rooms_booked", "BIGINT", "Rooms booked for that night, where a capacity is configured", nullable=True),
        Column("overbook_by", "BIGINT", "Rooms to sell beyond the capacity, where it is configured", nullable=True),
        Column("model_name", "STRING", "Registered model that scored the bookings"),
        Column("model_version", "BIGINT", "Its version"),
        Column("run_id", "STRING", "MLflow run that has the page outlook.html"),
        Column("made_at", "TIMESTAMP", "When"),
    ),
    key=("as_of", "arrival_date"),
)

TABLES: tuple[Table, ...] = (
    BOOKINGS,
    REJECTED,
    INGESTED_FILES,
    FEATURE_TABLE,
    LABELS,
    PREDICTIONS,
    PROMOTIONS,
    MONITORING,
    OUTLOOK,
)
