from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.bookings.synthetic_data import synthetic_bookings
from booking_mlops.core.model.scoring import as_model_input

Rows = tuple[pd.DataFrame, np.ndarray]


def labelled(rows: int) -> Rows:
    """Return model inputs and labels of synthetic bookings."""
    bookings = synthetic_bookings(rows, 5)
    bookings.columns = pd.Index([column.name for column in CSV_COLUMNS])
    return as_model_input(bookings, DEFAULT_FEATURES), (bookings["booking_status"] == "Canceled").to_numpy(dtype=int)


@pytest.fixture(scope="session")
def rows() -> Rows:
    return labelled(1500)
