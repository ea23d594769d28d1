from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from booking_mlops.core.bookings.quality import DEFAULT_RANGES, check_header, profile
from booking_mlops.core.bookings.schema import CSV_COLUMNS, CSV_HEADER
from booking_mlops.errors import DataQualityError


def test_the_header_may_carry_a_byte_order_mark_and_spaces() -> None:
    check_header("\ufeff" + ", ".join(CSV_HEADER) + "\r", "f")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (";".join(CSV_HEADER), "separated by semicolons"),
        ("\t".join(CSV_HEADER), "separated by tabs"),
        (",".join(CSV_HEADER[:-1]), "missing booking status"),
        (",".join([*CSV_HEADER, "extra"]), "unknown extra"),
        (",".join(reversed(CSV_HEADER)), "not in the expected order"),
        ("", "missing Booking_ID"),
        ("\x1f\x8b\x08", "missing Booking_ID"),
    ],
)
def test_any_other_header_is_refused_and_the_difference_said(line: str, message: str) -> None:
    with pytest.raises(DataQualityError, match="f: ") as caught:
        check_header(line, "f")
    assert message in str(caught.value)


def test_the_profile_names_constant_columns_and_shares_out_of_range() -> None:
    frame = pd.DataFrame({"a": [1, 1], "b": [1.0, np.nan]})
    found = profile(frame, ["a", "b"], {"b": (0, 5), "absent": (0, 1)})
    assert found.constant == ("a",)
    assert found.out_of_range == {"b": 0.5}


def test_every_default_range_is_that_of_a_numeric_column() -> None:
    numeric = {column.name for column in CSV_COLUMNS if column.kind in ("whole", "decimal")}
    assert set(DEFAULT_RANGES) == numeric
    assert all(low == 0.0 < high for low, high in DEFAULT_RANGES.values())
