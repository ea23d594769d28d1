"""Windows of arrival days, and the same season in earlier years."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd

_YEARS_BACK = 5
# 52 weeks: a shift by this many days keeps weekdays.
_DAYS_OF_A_YEAR = 364


@dataclass(frozen=True)
class Window:
    """The days from `first` to `last`, both included."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def sql(self, column: str) -> str:
        """Return a SQL condition that holds when the date `column` is within the window."""
        return f"{column} BETWEEN DATE'{self.first}' AND DATE'{self.last}'"


def newest_window(last: date, days: int) -> Window:
    """Return the `days` days that end with `last`."""
    return Window(last - timedelta(days=days - 1), last)


def same_seasons(window: Window, margin_days: int) -> list[Window]:
    """Return the window in this year and in each of the five before, `margin_days` wider on both sides.

    This year's is included so that a retraining ends an alarm: drift is about what is new since the champion was
    trained, and bookings it was trained on are not.
    """
    margin = timedelta(days=margin_days)
    shifts = [timedelta(days=_DAYS_OF_A_YEAR * years) for years in range(_YEARS_BACK + 1)]
    return [Window(window.first - shift - margin, window.last - shift + margin) for shift in shifts]


def within(windows: Sequence[Window], days: pd.Series) -> pd.Series:
    """Return for each day whether it is in any of the windows, as booleans with the index of `days`."""
    known = pd.to_datetime(days)
    return functools.reduce(
        operator.or_,
        (known.between(pd.Timestamp(window.first), pd.Timestamp(window.last)) for window in windows),
        pd.Series(False, index=days.index),
    )
