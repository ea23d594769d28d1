from __future__ import annotations

import numpy as np
import pandas as pd

from booking_mlops.core.bookings.quality import DEFAULT_RANGES, profile
from booking_mlops.core.bookings.schema import CSV_COLUMNS


def test_the_profile_names_constant_columns_and_shares_out_of_range() -> None:
    frame = pd.DataFrame({"a": [1, 1], "b": [1.0, np.nan]})
    found = profile(frame, ["a", "b"], {"b": (0, 5), "absent": (0, 1)})
    assert found.constant == ("a",)
    assert found.out_of_range == {"b": 0.5}


def test_every_default_range_is_that_of_a_numeric_column() -> None:
    numeric = {column.name for column in CSV_COLUMNS if column.kind in ("whole", "decimal")}
    assert set(DEFAULT_RANGES) == numeric
    assert all(low == 0.0 < high for low, high in DEFAULT_RANGES.values())
