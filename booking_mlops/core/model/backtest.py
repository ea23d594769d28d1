"""The backtest: what live use would have been, by a model of a day that is past and the bookings open from then on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.bookings.schema import FEATURE_KEY, LABEL
from booking_mlops.core.model.correction import Correction, fit_correction
from booking_mlops.core.model.metrics import Metrics, evaluate
from booking_mlops.core.model.split import one_row_per_key
from booking_mlops.core.outlook.counts import fitted_correlation
from booking_mlops.errors import ConfigError

Score = Callable[[pd.DataFrame], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class BacktestDay:
    """The bookings that were open on a day: how many, how many of them were cancelled, and what the model expected.

    `corrected` is what it expected with a correction learned on the days before; `metrics` are those of the bookings
    without a twin among the training rows, each distinct booking once; None when all of them ended the same way.
    """

    as_of: date
    bookings: int
    cancelled: int
    expected: float
    corrected: float
    metrics: Metrics | None


@dataclass(frozen=True)
class Backtest:
    """A backtest; empty when the bookings did not allow one.

    `correction` is to be applied to probabilities of open bookings, `correlation` is that between the bookings of an
    arrival date.
    """

    trained_until: date | None = None
    training_rows: int = 0
    days: tuple[BacktestDay, ...] = ()
    correction: Correction = field(default_factory=Correction)
    correlation: float = 0.0

    @property
    def metrics(self) -> Metrics | None:
        """The metrics of the first day, by the model of that very day: what the training announces for live use."""
        return self.days[0].metrics if self.days else None

    @property
    def roc_auc(self) -> float:
        """The ROC AUC of the first day; NaN when there is none."""
        return self.metrics.roc_auc if self.metrics else float("nan")

    @property
    def judged(self) -> Sequence[BacktestDay]:
        """The days that have a correction learned on days before them."""
        return self.days[1:]

    def ranking_in_words(self) -> str:
        """Return how well bookings that were open on earlier days were ranked."""
        aucs = [f"{day.as_of} {day.metrics.roc_auc:.3f}" for day in self.days if day.metrics]
        return f"ROC AUC of the bookings open on {', '.join(aucs)}" if aucs else "no day could be replayed"

    def in_words(self) -> str:
        """Return what to expect of the number of cancellations, and what is done about it."""
        if not self.judged:
            return "There were too few past bookings to replay earlier days, so the probabilities are the model's own."
        own, corrected, came = (sum(getattr(day, name) for day in self.judged)
                                for name in ("expected", "corrected", "cancelled"))  # fmt: skip
        said = (
            f"On {len(self.judged)} earlier days the model expected {own:,.0f} cancellations of the bookings open "
            f"then, and {came:,} came"
        )
        third = float(self.correction.apply([1 / 3])[0])
        return (
            f"{said}; corrected by what was known before each of these days, {corrected:,.0f} were expected. The "
            f"probabilities are corrected so too: one of 33 % becomes {100 * third:.0f} %."
        )


@dataclass(frozen=True)
class BacktestRule:
    """How the past is replayed: the model is of the day `period_days` before the last arrival that is certain.

    It is judged on `days` days from then on. Days with fewer than `min_bookings` open bookings are left out.
    """

    period_days: int = 30
    days: int = 4
    min_bookings: int = 100

    def __post_init__(self) -> None:
        for name in ("period_days", "days", "min_bookings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"backtest.{name}: {getattr(self, name)} is below 1")


def backtest(frame: pd.DataFrame, rule: BacktestRule, fit: Callable[[pd.DataFrame], Score]) -> Backtest:
    """Train on what was certain on a day that is past, and judge on the bookings that were open on it and after it.

    `frame` has the bookings with a certain label: the model's inputs, the key, arrival_date, booked_on and the label.
    `fit` returns the scores of a model fitted to some of them; it is called once. The correction of a day is learned on
    the days before it, and only on bookings that had arrived by then; the one to be used from now on, on all days.
    """
    arrival, booked = pd.to_datetime(frame["arrival_date"]), pd.to_datetime(frame["booked_on"])
    end = arrival.max()
    start = end - pd.Timedelta(days=rule.period_days - 1)
    before, after = frame[arrival < start], (arrival >= start)
    if before[LABEL].nunique() < 2 or not after.any():
        return Backtest()
    later = frame[after].assign(arrival=arrival[after], booked=booked[after])
    later["twin"] = later[FEATURE_KEY].isin(set(before[FEATURE_KEY]))
    later["p"] = fit(before)(later)
    opened = []
    for number in range(rule.days):
        day = start + pd.Timedelta(days=number * rule.period_days // rule.days)
        rows = later[(later["booked"] <= day) & (later["arrival"] >= day)]
        if len(rows) >= rule.min_bookings:
            opened.append(rows.assign(day=day))
    if not opened:
        return Backtest()
    corrected = [_learned_before(opened, number).apply(rows["p"]) for number, rows in enumerate(opened)]
    days = tuple(_day(rows, p) for rows, p in zip(opened, corrected, strict=True))
    together = pd.concat(opened)
    correction = fit_correction(together["p"], together[LABEL]) if len(opened) > 1 else Correction()
    return Backtest(start.date(), len(before), days, correction, _correlation(opened[1:], corrected[1:]))


def _learned_before(opened: Sequence[pd.DataFrame], number: int) -> Correction:
    """Return the correction that was known on a day from the days before: of bookings that had arrived by then."""
    day = opened[number]["day"].iloc[0]
    known = pd.concat([opened[0][:0], *(rows[rows["arrival"] < day] for rows in opened[:number])])
    return fit_correction(known["p"], known[LABEL])


def _correlation(opened: Sequence[pd.DataFrame], corrected: Sequence[npt.NDArray[np.float64]]) -> float:
    dates = [
        (part["corrected"].to_numpy(), int(part[LABEL].sum()))
        for rows, p in zip(opened, corrected, strict=True)
        for _, part in rows.assign(corrected=p).groupby("arrival")
    ]
    return fitted_correlation(dates)


def _day(rows: pd.DataFrame, corrected: npt.NDArray[np.float64]) -> BacktestDay:
    distinct = one_row_per_key(rows[~rows["twin"]], FEATURE_KEY, "booking_id")
    metrics = evaluate(distinct[LABEL].to_numpy(), distinct["p"].to_numpy())
    return BacktestDay(
        as_of=rows["day"].iloc[0].date(),
        bookings=len(rows),
        cancelled=int(rows[LABEL].sum()),
        expected=float(rows["p"].sum()),
        corrected=float(corrected.sum()),
        metrics=None if math.isnan(metrics.roc_auc) else metrics,
    )
