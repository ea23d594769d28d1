from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.bookings.schema import CSV_COLUMNS, CSV_HEADER
from booking_mlops.core.bookings.synthetic_data import (
    bookings_as_of,
    csv_lines,
    synthetic_bookings,
    synthetic_chunks,
)
from booking_mlops.core.model.families.random_forest import RandomForest
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability


def test_the_same_arguments_give_the_same_rows() -> None:
    pd.testing.assert_frame_equal(synthetic_bookings(300, 1), synthetic_bookings(300, 1))
    assert not synthetic_bookings(300, 1).equals(synthetic_bookings(300, 2))


@pytest.mark.parametrize("rows", [1, 2, 999, 1001])
def test_any_number_of_rows_in_pieces(rows: int) -> None:
    chunks = list(synthetic_chunks(rows, 4, chunk=500))
    whole = pd.concat(chunks)
    assert len(whole) == rows
    assert whole["Booking_ID"].is_unique
    assert tuple(whole.columns) == CSV_HEADER


def test_it_is_as_hard_to_predict_as_the_real_data() -> None:
    # The reference: a default forest of 100 trees reaches .901 at 20,000 rows, random split (data study).
    aucs = []
    for seed in (7, 8):
        bookings = synthetic_bookings(20_000, seed)
        bookings.columns = pd.Index([column.name for column in CSV_COLUMNS])
        labels = (bookings["booking_status"] == "Canceled").to_numpy(dtype=int)
        assert labels.mean() == pytest.approx(0.328, abs=0.012)
        inputs = as_model_input(bookings, DEFAULT_FEATURES)
        test = np.random.default_rng(seed).random(len(bookings)) < 0.2
        forest = RandomForest(max_depth=1_000, max_features=None, seed=seed)
        model = forest.fit(inputs[~test], labels[~test])
        aucs.append(roc_auc_score(labels[test], cancellation_probability(model, inputs[test])))
    assert np.mean(aucs) == pytest.approx(0.901, abs=0.02)


def test_the_lines_are_those_of_a_csv_file() -> None:
    lines = csv_lines(synthetic_bookings(3, 1), header=True)
    assert lines[0] == ",".join(CSV_HEADER)
    assert lines[1:] == csv_lines(synthetic_bookings(3, 1), header=False)
    assert len(lines) == 4


def test_bookings_as_of_a_day_are_the_same_a_day_later_but_for_what_happened_since() -> None:
    day = date(2026, 11, 26)
    today, tomorrow = (bookings_as_of(day + timedelta(n), 4_000, seed=7).set_index("Booking_ID") for n in (0, 1))
    assert abs(len(today) - 4_000) < 400
    both = today.index.intersection(tomorrow.index)
    assert len(today) - len(both) < 20
    assert 0 < len(tomorrow.index.difference(today.index)) < 20
    unchanged = [name for name in today.columns if name != "booking status"]
    assert today.loc[both, unchanged].equals(tomorrow.loc[both, unchanged])
    before, after = today.loc[both, "booking status"], tomorrow.loc[both, "booking status"]
    assert set(before[before != after]) == {"Open"}
    for frame, as_of in ((today, day), (tomorrow, day + timedelta(1))):
        arrival = pd.to_datetime(frame["date of reservation"])
        booked = arrival - pd.to_timedelta(frame["lead time"], unit="D")
        status = frame["booking status"]
        assert booked.max() == pd.Timestamp(as_of)
        assert arrival[status == "Open"].min() >= pd.Timestamp(as_of)
        assert arrival[status == "Not_Canceled"].max() < pd.Timestamp(as_of)
        # Some cancel before they would have arrived.
        assert (arrival[status == "Canceled"] > pd.Timestamp(as_of)).any()
        assert 0.25 < (status[arrival < pd.Timestamp(as_of)] == "Canceled").mean() < 0.42
        assert (status == "Open").mean() > 0.04
    assert bookings_as_of(day, 4_000, seed=7).equals(today.reset_index())
    assert not bookings_as_of(day, 4_000, seed=8).equals(today.reset_index())
