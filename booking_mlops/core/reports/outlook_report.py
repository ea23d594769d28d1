"""The outlook page: the dates ahead, the bookings to look at first, and how well earlier outlooks did."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from booking_mlops.core.outlook.dates import ArrivalDate
from booking_mlops.core.outlook.overbooking import Suggestion
from booking_mlops.core.outlook.reasons import Reason
from booking_mlops.core.outlook.record import RecordLine
from booking_mlops.core.reports import outlook_plots

_TEMPLATE = Path(__file__).with_name("outlook_report.html")
_NEXT_DATES = 14


@dataclass(frozen=True)
class FirstBooking:
    """A booking to look at first, and the features that raise its probability."""

    booking_id: str
    arrival_date: date
    days_ahead: int
    nights: int
    value: float
    probability: float
    reasons: Sequence[Reason]

    @property
    def at_stake(self) -> float:
        """Probability times value."""
        return self.probability * self.value


@dataclass(frozen=True)
class OutlookPage:
    """Everything the page shows.

    `correction` says in plain words what the backtest changed; `judged` are the rows of `record.judged`, `record` their
    sums; `facts` maps labels to values.
    """

    title: str
    as_of: date
    coverage: float
    dates: Sequence[ArrivalDate]
    first: Sequence[FirstBooking]
    suggestions: Sequence[Suggestion]
    correction: str
    judged: pd.DataFrame
    record: Sequence[RecordLine]
    facts: Mapping[str, str]


def render(page: OutlookPage) -> str:
    """Return the page as HTML; styles and images are in it, so it can be read without a network."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"number": _number, "day": _day, "words": _words}
    bookings = sum(one.open_bookings for one in page.dates)
    expected = sum(one.expected for one in page.dates)
    images = {"dates": outlook_plots.dates_ahead(page.dates, page.coverage)}
    if len(page.judged):
        images["record"] = outlook_plots.earlier_outlooks(page.judged, page.coverage)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        page=page,
        bookings=bookings,
        expected=expected,
        value=sum(one.value for one in page.dates),
        at_stake=sum(one.value_at_stake for one in page.dates),
        nights_at_stake=sum(one.nights_at_stake for one in page.dates),
        next_dates=page.dates[:_NEXT_DATES],
        later_dates=page.dates[_NEXT_DATES:],
        overbooking={one.night: one for one in page.suggestions},
        images={name: {width: _data(png) for width, png in drawn.items()} for name, drawn in images.items()},
    )


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) < 10 and value != round(value) else f"{value:,.0f}"


def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b %Y}"


def _words(value: Any) -> str:
    """Return a feature's name or value as a person would write it."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace("_", " ")
