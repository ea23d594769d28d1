"""Windows of days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Window:
    """The days from `first` to `last`, both included."""

    first: date
    last: date

    def sql(self, column: str) -> str:
        """Return a SQL condition that holds when the date `column` is within the window."""
        return f"{column} BETWEEN DATE'{self.first}' AND DATE'{self.last}'"


def newest_window(last: date, days: int) -> Window:
    """Return the `days` days that end with `last`."""
    return Window(last - timedelta(days=days - 1), last)
