from __future__ import annotations

from datetime import date

from booking_mlops.core.drift.seasons import newest_window


def test_a_window_ends_with_a_day() -> None:
    window = newest_window(date(2018, 12, 31), 28)
    assert (window.first, window.last) == (date(2018, 12, 4), date(2018, 12, 31))
    assert window.sql("d") == "d BETWEEN DATE'2018-12-04' AND DATE'2018-12-31'"
