"""From bookings to features and labels, as Spark SQL expressions."""

from __future__ import annotations

from booking_mlops.core.bookings.schema import CANCELED, FEATURE_KEY, FEATURES, LABEL


def feature_key_sql() -> str:
    """A 64-bit key that is equal exactly for bookings with equal feature values (twins)."""
    return f"xxhash64({', '.join(FEATURES)}) AS {FEATURE_KEY}"


def feature_select() -> list[str]:
    """The feature table's columns. The lead time dates the booking, so every value was known at `booked_on`."""
    return [
        "booking_id",
        *FEATURES,
        feature_key_sql(),
        "date_sub(date_of_reservation, lead_time) AS booked_on",
        "date_of_reservation AS arrival_date",
    ]


def label_select() -> list[str]:
    """The labels table's columns."""
    return [
        "booking_id",
        f"CAST(booking_status = '{CANCELED}' AS INT) AS {LABEL}",
        "date_of_reservation AS event_date",
    ]


_BUCKETS = 1_000_000


def sample_sql(fraction: float, salt: str) -> str:
    """A condition that keeps about `fraction` of the distinct feature keys: stable, and twins stay together."""
    return f"pmod(xxhash64({FEATURE_KEY}, '{salt}'), {_BUCKETS}) < {round(fraction * _BUCKETS)}"


def sampled_first_sql(salt: str) -> str:
    """What to order bookings by so that the first ones are a sample of all: stable, whatever else is there."""
    return f"xxhash64(booking_id, '{salt}')"
