"""How well earlier outlooks did, now that the outcomes have come."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

_HORIZONS = ((0, "on the day and the week before"), (8, "8 to 30 days before"), (31, "31 to 90 days before"),
             (91, "more than 90 days before"))  # fmt: skip


@dataclass(frozen=True)
class RecordLine:
    """Arrival dates that earlier outlooks spoke of, some days before: how many of them, and how it went."""

    name: str
    dates: int
    bookings: int
    expected: float
    cancelled: int
    inside: int

    @property
    def share_inside(self) -> float:
        """Share of the dates whose cancellations were inside the interval; NaN without dates."""
        return self.inside / self.dates if self.dates else float("nan")


def judged(earlier: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that can be judged, with `days_before` and `inside`.

    `earlier` has a row for each outlook (`as_of`) and arrival date: open_bookings, expected_cancellations,
    lower_cancellations, upper_cancellations, and of the same bookings how many have an outcome (`outcomes`) and were
    `cancelled`. A date is judged only when every one of its bookings has an outcome.
    """
    rows: pd.DataFrame = earlier[earlier["outcomes"] == earlier["open_bookings"]].copy()
    rows["days_before"] = (pd.to_datetime(rows["arrival_date"]) - pd.to_datetime(rows["as_of"])).dt.days
    rows["inside"] = rows["cancelled"].between(rows["lower_cancellations"], rows["upper_cancellations"])
    return rows


def record(rows: pd.DataFrame) -> list[RecordLine]:
    """Return a line for each span of days before the arrival that `rows` (of `judged`) has, and one for all of them."""
    starts = [start for start, _ in _HORIZONS]
    lines = []
    for at, (start, name) in enumerate(_HORIZONS):
        end = starts[at + 1] if at + 1 < len(starts) else float("inf")
        part = rows[(rows["days_before"] >= start) & (rows["days_before"] < end)]
        if len(part):
            lines.append(_line(name, part))
    return [*lines, _line("all", rows)] if len(lines) > 1 else lines


def _line(name: str, rows: pd.DataFrame) -> RecordLine:
    return RecordLine(
        name,
        len(rows),
        int(rows["open_bookings"].sum()),
        float(rows["expected_cancellations"].sum()),
        int(rows["cancelled"].sum()),
        int(rows["inside"].sum()),
    )
