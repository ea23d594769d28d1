"""From bookings to features and labels, as Spark SQL expressions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from booking_mlops.core.bookings.schema import CANCELED, CSV_COLUMNS, FEATURE_KEY, LABEL, OPEN


@dataclass(frozen=True)
class Feature:
    """A column of the feature table that a model can take as input.

    `sql` is Spark SQL over the columns of `bookings`. It uses only what is known when the booking is made, is never
    NULL and holds in ANSI mode, where a division by zero is an error.
    """

    name: str
    sql: str
    sql_type: str
    comment: str
    in_key: bool = False
    """Whether the feature is part of the key that decides the holdout. Raw columns only: the key never changes."""
    default: bool = False
    """Whether a model takes it unless the configuration lists its inputs."""


_NOT_A_FEATURE = {"booking_id", "date_of_reservation", "booking_status"}

_RAW = tuple(
    Feature(column.name, column.name, column.sql_type, column.comment, in_key=True, default=True)
    for column in CSV_COLUMNS
    if column.name not in _NOT_A_FEATURE
)

_NIGHTS = "(number_of_weekend_nights + number_of_week_nights)"
_GUESTS = "(number_of_adults + number_of_children)"
_BOOKED_ON = "date_sub(date_of_reservation, lead_time)"

FEATURES: tuple[Feature, ...] = (
    *_RAW,
    Feature("total_nights", _NIGHTS, "INT", "Nights of the stay"),
    Feature("guests", _GUESTS, "INT", "Adults and children"),
    Feature("has_children", "CAST(number_of_children > 0 AS INT)", "INT", "1 when children are among the guests"),
    Feature("price_per_guest", f"average_price / greatest({_GUESTS}, 1)", "DOUBLE", "Price of a night for each guest"),
    Feature("stay_price", f"average_price * {_NIGHTS}", "DOUBLE", "Price of all nights"),
    Feature("arrival_month", "month(date_of_reservation)", "INT", "Month of arrival, 1 to 12"),
    Feature("arrival_weekday", "weekday(date_of_reservation) + 1", "INT", "Weekday of arrival, 1 Monday to 7 Sunday"),
    Feature("booked_weekday", f"weekday({_BOOKED_ON}) + 1", "INT", "Weekday of the booking, 1 Monday to 7 Sunday"),
    Feature("canceled_share", "p_c / greatest(p_c + p_not_c, 1)", "DOUBLE", "Share of previous bookings cancelled"),
)
"""Every feature in table order: the raw columns, then the derived ones. A new feature is one more row here."""

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
DEFAULT_FEATURES: tuple[str, ...] = tuple(feature.name for feature in FEATURES if feature.default)


def feature_key_sql() -> str:
    """Return SQL for a 64-bit key that bookings with equal raw feature values (twins) share."""
    return f"xxhash64({', '.join(feature.name for feature in FEATURES if feature.in_key)}) AS {FEATURE_KEY}"


def feature_select() -> list[str]:
    """Return the expressions that select the feature table from `bookings`, in table order.

    `booked_on` is the day the booking was made, arrival minus lead time: every feature was known then.
    """
    return [
        "booking_id",
        *(feature.name if feature.sql == feature.name else f"{feature.sql} AS {feature.name}" for feature in FEATURES),
        feature_key_sql(),
        f"{_BOOKED_ON} AS booked_on",
        "date_of_reservation AS arrival_date",
    ]


def label_select() -> list[str]:
    """Return the expressions that select the labels table from `bookings`, in table order."""
    return [
        "booking_id",
        f"CAST(booking_status = '{CANCELED}' AS INT) AS {LABEL}",
        "date_of_reservation AS event_date",
    ]


def certain_sql(as_of: date) -> str:
    """Return the condition on `bookings` under which a booking has a label: it has an outcome, and its arrival is past.

    A cancelled booking that is yet to arrive has none either. The kept ones it competes with are still open, so that
    labels of the cancelled ones alone would teach a model that far too many are cancelled.
    """
    return f"booking_status <> '{OPEN}' AND date_of_reservation < DATE'{as_of}'"


_BUCKETS = 1_000_000


def sample_sql(fraction: float, salt: str) -> str:
    """Return a condition that keeps about `fraction` of the distinct feature keys: stable, and twins stay together."""
    return f"pmod(xxhash64({FEATURE_KEY}, '{salt}'), {_BUCKETS}) < {round(fraction * _BUCKETS)}"


def sample_order_sql(salt: str) -> str:
    """Return an ORDER BY expression under which the first n bookings are a random sample, the same each time."""
    return f"xxhash64(booking_id, '{salt}')"
