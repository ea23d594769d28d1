"""What new bookings can honestly be compared with, among those that were known before.

A difference is drift only when nothing else explains it.

- The season does. So new bookings are compared with those that were new on the same days of earlier years.
- What was known last does: a price that had risen before the training is no news. So they are also compared with those
  that had become known just before it, and of the two differences the smaller counts.
- How far ahead a file looks does. One that ends with last week's arrivals has no early bookings made last week; one
  that holds the open bookings has. So both sides are what became known between two days, whatever the files are like.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import pandas as pd

BOOKED, ARRIVAL = "booked_on", "arrival_date"

_ODD = 100
"""So many bookings with odd dates, or far ahead of all others, change nothing."""
_YEARS_BACK = 5
# 52 weeks: a shift by this many days keeps weekdays.
_DAYS_OF_A_YEAR = 364
# Without the first and the last few: a mistyped date changes nothing.
_FEW = 0.05
_HARDLY_ANY = 0.1
_NO_END = date(2200, 1, 1)


@dataclass(frozen=True)
class State:
    """What is known on a day: the bookings made by then, of arrivals up to `until`."""

    day: date
    until: date

    def knows(self, rows: pd.DataFrame) -> pd.Series:
        """Return for each booking whether it is known."""
        return (rows[BOOKED] <= pd.Timestamp(self.day)) & (rows[ARRIVAL] <= pd.Timestamp(self.until))

    def earlier(self, days: int) -> State:
        """Return the state so many days before."""
        return State(self.day - timedelta(days=days), self.until - timedelta(days=days))


@dataclass(frozen=True)
class Period:
    """From one state to a later one: the bookings that became known."""

    before: State
    after: State

    @property
    def which(self) -> str:
        """Which bookings those are, in a few words."""
        if self.before.day < self.after.day:
            return f"bookings that became known after {self.before.day}, by {self.after.day}"
        return f"bookings that arrive after {self.before.until}, by {self.after.until}"

    def news(self, rows: pd.DataFrame) -> pd.Series:
        """Return for each booking whether it became known in the period."""
        return self.after.knows(rows) & ~self.before.knows(rows)

    def earlier(self, days: int) -> Period:
        """Return the period so many days before."""
        return Period(self.before.earlier(days), self.after.earlier(days))


@dataclass(frozen=True)
class Reference:
    """Known bookings that new ones are compared with: what they are, and whether they are of the same season."""

    rows: pd.DataFrame
    what: str
    same_season: bool


@dataclass(frozen=True)
class Compared:
    """New bookings, in a few words which, and one or two references to compare them with."""

    current: pd.DataFrame
    which: str
    references: tuple[Reference, ...]

    @property
    def same_season(self) -> bool:
        """Whether any reference is of the same season, so that the season alone explains no difference."""
        return any(one.same_season for one in self.references)


def _far_end(rows: pd.DataFrame) -> date:
    """Return the last day of arrival that is known, but for a hundred bookings that may be odd."""
    arrivals = rows[ARRIVAL].sort_values()
    day: date = arrivals.iloc[max(len(arrivals) - _ODD, 0)].date()
    return day


def compare(
    new: pd.DataFrame,
    known: pd.DataFrame,
    trained_on: date,
    as_of: date,
    *,
    days: int,
    margin: int,
    min_rows: int,
    max_rows: int,
) -> Compared | None:
    """Return what of the `new` bookings is compared with which of the `known` ones; None when they are too few.

    `known` is what was known on the day `trained_on`; `new` is what is known on the day `as_of` and was not. Both are
    in random order and have BOOKED and ARRIVAL. Compared is what became known in the last `days` days, or where that is
    less than `min_rows` all of it. The season of earlier years is `margin` days longer on both sides. A side has at
    least `min_rows` and at most `max_rows`.
    """
    if min(len(new), len(known)) < min_rows:
        return None
    new, known = _dated(new), _dated(known)
    before = State(trained_on, _far_end(known))
    after = State(as_of, max(_far_end(pd.concat([known[[ARRIVAL]], new[[ARRIVAL]]])), before.until))
    late = before.knows(new)
    if late.sum() >= min_rows and 2 * late.sum() > len(new):
        which, references = _known_before(new[late], known, margin)
        return _compared(new[late], which, references, known, min_rows, max_rows)
    for period in _periods(before, after, days):
        period = _as_shown(period, new)
        current = new[period.news(new)]
        if len(current) >= min_rows:
            references = _known_then(known, period, before, margin)
            return _compared(current, period.which, references, known, min_rows, max_rows)
    return None


def _compared(
    current: pd.DataFrame,
    which: str,
    references: Sequence[Reference],
    known: pd.DataFrame,
    min_rows: int,
    max_rows: int,
) -> Compared:
    """Leave out the references with too few rows; without any, all that is known is one, of whatever season."""
    enough = [one for one in references if len(one.rows) >= min_rows] or [Reference(known, "all known ones", False)]
    return Compared(
        current.head(max_rows).reset_index(drop=True),
        f"{len(current):,} {which}",
        tuple(replace(one, rows=one.rows.head(max_rows).reset_index(drop=True)) for one in enough),
    )


def _dated(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with dates that pandas compares quickly."""
    dated: pd.DataFrame = rows.assign(**{name: pd.to_datetime(rows[name]) for name in (BOOKED, ARRIVAL)})
    return dated


def _periods(before: State, after: State, days: int) -> Iterator[Period]:
    """Yield the last days of the time since the training, then all of it."""
    start = after.earlier(days)
    if start.day > before.day:
        yield Period(replace(start, until=max(start.until, before.until)), after)
    yield Period(before, after)


def _as_shown(period: Period, new: pd.DataFrame) -> Period:
    """Return the period as the files show it: bookings as they are made, or only once their arrival is near or past.

    If hardly any new booking had been made before the period, the arrivals that were known then had no end.
    """
    late = new.loc[period.news(new), BOOKED] <= pd.Timestamp(period.before.day)
    return period if late.mean() > _HARDLY_ANY else Period(State(period.before.day, _NO_END), period.after)


def _known_then(known: pd.DataFrame, period: Period, trained: State, margin: int) -> list[Reference]:
    """Return what became known in such a period of earlier years, and just before the training."""
    arrivals = known[ARRIVAL].sort_values()
    first = arrivals.iloc[min(_ODD, len(arrivals) - 1)].date()
    years = [period.earlier(_DAYS_OF_A_YEAR * years) for years in range(1, _YEARS_BACK + 1)]
    # Of what became known before the first known arrivals, only the late arrivals are there.
    whole = [
        year for year in years if min(year.before.day, year.before.until) >= first and year.after.day <= trained.day
    ]
    around = [year.earlier(shift) for year in whole for shift in (-margin, 0, margin)]
    return [
        Reference(known[_any(around, known)], "those of the same days of earlier years", same_season=True),
        Reference(known[_just_before(period, trained).news(known)], f"the last before {trained.day}", False),
    ]


def _just_before(period: Period, trained: State) -> Period:
    """Return a period like the given one that ends with the training, and looks no further ahead than that one."""
    before, after = period.before, period.after
    last = State(trained.day, min(trained.until, trained.day + (after.until - after.day)))
    until = _NO_END if before.until == _NO_END else last.until - (after.until - before.until)
    return Period(State(last.day - (after.day - before.day), until), last)


def _any(periods: list[Period], rows: pd.DataFrame) -> pd.Series:
    nothing = pd.Series(False, index=rows.index)
    return functools.reduce(operator.or_, (period.news(rows) for period in periods), nothing)


def _known_before(current: pd.DataFrame, known: pd.DataFrame, margin: int) -> tuple[str, list[Reference]]:
    """Say what changed, or came later than it might have, and return the known ones of the same days of arrival."""
    first, last = pd.DatetimeIndex(current[ARRIVAL].quantile([_FEW, 1 - _FEW]))
    there, wider = known[ARRIVAL], timedelta(days=margin)
    same = pd.Series(False, index=known.index)
    for years in range(_YEARS_BACK + 1):
        shift = timedelta(days=_DAYS_OF_A_YEAR * years)
        same |= there.between(first - shift - wider, last - shift + wider)
    which = f"bookings that have changed or came late, arrivals {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return which, [Reference(known[same], "known arrivals of the same season", same_season=True)]
