"""Plots of the outlook page, each drawn twice: `wide` for a desktop, `narrow` for a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from booking_mlops.core.outlook.dates import ArrivalDate
from booking_mlops.core.reports.plots import png

_SIZES = {"wide": (10.4, 3.6), "narrow": (4.4, 3.8)}
_BLUE, _RED, _PALE, _INK = "#0b6e99", "#c8553d", "#dbe4e9", "#5d6b74"
_DAYS_SHOWN = {"wide": 120, "narrow": 42}


def _drawn(draw: Callable[[Any, str], None]) -> dict[str, bytes]:
    """Return the PNG of each width of what `draw` draws on the axes it is given."""
    from matplotlib.figure import Figure

    images = {}
    for width, size in _SIZES.items():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="y", color="#e6eaed", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_INK, labelsize=9, length=0)
        draw(axes, width)
        images[width] = png(figure)
    return images


def _dated(axes: Any, narrow: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=5 if narrow else 10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _legend(axes: Any, width: str) -> None:
    # Above the plot, where it hides nothing.
    axes.figure.legend(frameon=False, fontsize=9, ncols=3 if width == "wide" else 2, loc="outside upper left")


def dates_ahead(dates: Sequence[ArrivalDate], coverage: float) -> dict[str, bytes]:
    """Draw for each date of arrival the open bookings, and the cancellations to expect with their interval."""

    def draw(axes: Any, width: str) -> None:
        days = _DAYS_SHOWN[width]
        shown = [one for one in dates if (one.arrival_date - dates[0].arrival_date).days < days]
        x = pd.to_datetime([one.arrival_date for one in shown])
        axes.bar(x, [one.open_bookings for one in shown], width=0.85, color=_PALE, label="open bookings")
        lower, upper = [one.lower for one in shown], [one.upper for one in shown]
        axes.vlines(x, lower, upper, color=_RED, alpha=0.38, linewidth=3.4 if width == "wide" else 3,
                    label=f"{coverage:.0%} interval")  # fmt: skip
        expected = [one.expected for one in shown]
        axes.plot(x, expected, "o", color=_RED, markersize=3.4, label="expected cancellations")
        _dated(axes, width == "narrow")
        axes.set_ylim(bottom=0)
        _legend(axes, width)

    return _drawn(draw)


def earlier_outlooks(judged: pd.DataFrame, coverage: float) -> dict[str, bytes]:
    """Draw for each past date what the last outlook made at least a week before expected, and what came.

    `judged` is what `record.judged` returns. Of a date without an outlook that early, the earliest one is drawn.
    """
    ordered = judged.sort_values("days_before", kind="stable")
    early = ordered[ordered["days_before"] >= 7].drop_duplicates("arrival_date")
    others = ordered[~ordered["arrival_date"].isin(early["arrival_date"])].drop_duplicates("arrival_date", keep="last")
    rows = pd.concat([early, others]).sort_values("arrival_date")

    def draw(axes: Any, width: str) -> None:
        part = rows.tail(_DAYS_SHOWN[width])
        x = pd.to_datetime(part["arrival_date"])
        axes.vlines(x, part["lower_cancellations"], part["upper_cancellations"], color=_BLUE, alpha=0.35,
                    linewidth=3.4 if width == "wide" else 3, label=f"{coverage:.0%} interval")  # fmt: skip
        inside = part["inside"].astype(bool)
        for mask, marker, label in ((inside, _BLUE, "came, inside"), (~inside, _RED, "came, outside")):
            axes.plot(x[mask], part["cancelled"][mask], "o", color=marker, markersize=3.8, label=label)
        _dated(axes, width == "narrow")
        axes.set_ylim(bottom=0)
        _legend(axes, width)

    return _drawn(draw)
