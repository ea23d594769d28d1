from __future__ import annotations

import io
from datetime import date

import pandas as pd
import pytest

from booking_mlops.core.drift.findings import Levels
from booking_mlops.core.drift.references import Compared, Reference
from booking_mlops.services.drift import Baseline, DriftSample, reference_file

LEVELS = Levels(0.1, 0.25)
ROWS = pd.DataFrame({"x": [1.0, 2.0]})


def reference(what: str, *, same_season: bool) -> Reference:
    return Reference(ROWS, what, same_season)


def test_what_was_known_is_kept_in_its_order() -> None:
    known = pd.DataFrame({"booking_id": ["b", "a"], "lead_time": [2, 1], "arrival_date": [date(2018, 1, 1)] * 2})
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(reference_file(known))), known)


@pytest.mark.parametrize(
    ("references", "level", "against"),
    [
        ((("season", True), ("last", False)), "ok", "against last"),
        ((("season", True),), "alarm", "against season"),
        ((("all", False),), "warn", "against all; no bookings of the same season"),
    ],
)
def test_the_smaller_difference_counts(references: tuple[tuple[str, bool], ...], level: str, against: str) -> None:
    values = {"season": 0.5, "last": 0.05, "all": 0.9}
    sample = DriftSample("x", Compared(ROWS, "2", tuple(reference(what, same_season=s) for what, s in references)))
    found = sample.lowest("feature drift", "x", "PSI", LEVELS, lambda one: values[one.what])
    assert (found.level, found.detail.startswith(against)) == (level, True)


def test_without_enough_that_is_new_nothing_is_judged_and_it_is_said() -> None:
    found = DriftSample("no booking is new").lowest("feature drift", "x", "PSI", LEVELS, lambda _: 1.0)
    assert (found.level, found.detail) == ("too few", "no booking is new")


def test_a_baseline_says_which_training_it_is() -> None:
    own, kept = (Baseline(1, version, date(2018, 12, 1), 3, ROWS, None) for version in (1, 4))
    assert own.description == "version 1 was trained as of 2018-12-01"
    assert kept.description == "version 4 was trained as of 2018-12-01, and version 1 kept"
