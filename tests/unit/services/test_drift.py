from __future__ import annotations

import io
from datetime import date

import pandas as pd

from booking_mlops.services.drift import reference_file


def test_what_a_model_was_trained_on_is_kept_in_a_stable_sample() -> None:
    rows = 1000
    trained_on = pd.DataFrame(
        {
            "booking_id": [f"INN{number:05}" for number in range(rows)],
            "lead_time": range(rows),
            "feature_key": range(rows),
            "arrival_date": [date(2018, 1, 1)] * rows,
            "is_canceled": 1,
        }
    )
    file = reference_file(trained_on, ["lead_time"], 300, seed=1)
    kept = pd.read_parquet(io.BytesIO(file))
    assert list(kept.columns) == ["booking_id", "lead_time", "feature_key", "arrival_date"]
    assert kept["booking_id"].nunique() == 300
    # The first of them are a sample too.
    assert 400 < kept["lead_time"].head(100).mean() < 600
    assert reference_file(trained_on, ["lead_time"], 300, seed=1) == file
    everything = pd.read_parquet(io.BytesIO(reference_file(trained_on, ["lead_time"], 5000, seed=1)))
    pd.testing.assert_frame_equal(
        everything.sort_values("booking_id", ignore_index=True), trained_on[list(kept.columns)]
    )
