from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from booking_mlops.core.bookings.features import DEFAULT_FEATURES, FEATURES
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.bookings.synthetic_data import synthetic_bookings
from booking_mlops.core.model.families.random_forest import RandomForest
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability

TEXT_FEATURES = [feature.name for feature in FEATURES if feature.sql_type == "STRING"]


@pytest.mark.parametrize("max_features", [None, 0.4])
def test_the_ordered_walk_through_the_forest_gives_the_same_probabilities(max_features: float | None) -> None:
    frame = synthetic_bookings(3_000, 5)
    frame.columns = [column.name for column in CSV_COLUMNS]
    numbers = {name: pd.to_numeric(frame[name]) for name in DEFAULT_FEATURES if name not in TEXT_FEATURES}
    inputs = as_model_input(frame.assign(**numbers), DEFAULT_FEATURES)
    labels = (frame["booking_status"] == "Canceled").to_numpy(dtype=int)
    model = RandomForest(n_estimators=20, max_depth=14, max_features=max_features).fit(inputs, labels)
    quick = cancellation_probability(model, inputs)
    np.testing.assert_allclose(quick, model.predict_proba(inputs)[:, 1], atol=1e-12, rtol=0)
    np.testing.assert_array_equal(quick[::-1], cancellation_probability(model, inputs[::-1]))
    assert len(cancellation_probability(model, inputs[:1])) == 1
    assert len(np.unique(quick)) > 100
    # As a worker has it: numbers with the table's own types, text as categories.
    text = {name: frame[name].astype("category") for name in TEXT_FEATURES}
    raw = frame.assign(**numbers, **text)[list(DEFAULT_FEATURES)]
    assert raw["lead_time"].dtype == np.int64
    np.testing.assert_array_equal(quick, cancellation_probability(model, raw))
    # Text that is missing is a value of its own, and none that was learned.
    raw["room_type"] = raw["room_type"].cat.set_categories(raw["room_type"].cat.categories[:-1])
    assert raw["room_type"].isna().any()
    np.testing.assert_allclose(
        cancellation_probability(model, raw),
        model.predict_proba(as_model_input(raw, DEFAULT_FEATURES))[:, 1],
        atol=1e-12,
    )
