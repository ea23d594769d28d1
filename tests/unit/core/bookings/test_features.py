from __future__ import annotations

from booking_mlops.core.bookings.features import (
    DEFAULT_FEATURES,
    FEATURE_NAMES,
    FEATURES,
    feature_key_sql,
    feature_select,
    sample_sql,
)
from booking_mlops.core.bookings.tables import FEATURE_TABLE

RAW = [
    *("number_of_adults", "number_of_children", "number_of_weekend_nights", "number_of_week_nights", "type_of_meal"),
    *("car_parking_space", "room_type", "lead_time", "market_segment_type", "repeated", "p_c", "p_not_c"),
    *("average_price", "special_requests"),
]


def test_the_key_that_decides_the_holdout_never_changes() -> None:
    # Written down once: with another key every later model would see rows its champion was judged on.
    assert feature_key_sql() == (
        "xxhash64(number_of_adults, number_of_children, number_of_weekend_nights, number_of_week_nights, type_of_meal, "
        "car_parking_space, room_type, lead_time, market_segment_type, repeated, p_c, p_not_c, average_price, "
        "special_requests) AS feature_key"
    )


def test_the_model_takes_the_raw_columns_unless_told_otherwise() -> None:
    assert list(DEFAULT_FEATURES) == RAW
    assert list(FEATURE_NAMES[: len(RAW)]) == RAW
    assert len(set(FEATURE_NAMES)) == len(FEATURES) > len(RAW)


def test_the_feature_table_follows_from_the_rows() -> None:
    names = ["booking_id", *FEATURE_NAMES, "feature_key", "booked_on", "arrival_date"]
    assert list(FEATURE_TABLE.column_names) == names
    assert [expression.rsplit(" AS ", 1)[-1] for expression in feature_select()] == names
    columns = {column.name: column for column in FEATURE_TABLE.columns}
    assert all(columns[feature.name].comment == feature.comment for feature in FEATURES)
    # Delta keeps statistics of the first 32 columns, and the newest arrival is read from them.
    assert len(names) <= 32


def test_sampling_is_by_feature_key() -> None:
    assert sample_sql(0.25, "x") == "pmod(xxhash64(feature_key, 'x'), 1000000) < 250000"
