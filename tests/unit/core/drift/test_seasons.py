from __future__ import annotations

from datetime import date

import pandas as pd

from booking_mlops.core.drift.seasons import newest_window, same_seasons, within


def test_the_season_is_the_same_days_of_each_year() -> None:
    window = newest_window(date(2018, 12, 31), 28)
    assert (window.first, window.last) == (date(2018, 12, 4), date(2018, 12, 31))
    this, last, *_ = same_seasons(window, 14)
    assert (this.first, this.last) == (date(2018, 11, 20), date(2019, 1, 14))
    assert (last.first.weekday(), last.first) == (this.first.weekday(), date(2017, 11, 21))
    assert window.sql("d") == "d BETWEEN DATE'2018-12-04' AND DATE'2018-12-31'"
    days = pd.Series([date(2017, 11, 20), date(2017, 11, 21), date(2018, 6, 1), date(2019, 1, 14), date(2019, 1, 15)])
    assert within([this, last], days).tolist() == [False, True, False, True, False]
