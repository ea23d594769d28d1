"""Synthetic bookings, for whoever has no file of a hotel at hand.

Cancellation follows measured rates by segment, lead time and special requests, adjusted by month, price and guest, so
that a model is about as good on synthetic bookings as on real ones.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.bookings.schema import CANCELED, CSV_HEADER, NOT_CANCELED, OPEN

CHUNK = 250_000

_SEGMENTS = ("Online", "Offline", "Corporate", "Complementary", "Aviation")
_SEGMENT_SHARES = (0.640, 0.290, 0.0556, 0.0108, 0.0036)

_LEAD_EDGES = (8, 31, 91, 152)
# [lead 0-7, 8-30, 31-90, 91-151, 152+][special requests 0, 1, 2, 3+]
_CELL_RATES = {
    "Online": (
        (0.19, 0.06, 0.01, 0.0),
        (0.48, 0.16, 0.02, 0.0),
        (0.64, 0.21, 0.03, 0.0),
        (0.68, 0.25, 0.22, 0.0),
        (0.955, 0.67, 0.725, 0.0),
    ),
    "Offline": (
        (0.095, 0.0, 0.0, 0.0),
        (0.03, 0.0, 0.04, 0.0),
        (0.09, 0.0, 0.0, 0.0),
        (0.34, 0.09, 0.05, 0.0),
        (0.65, 0.65, 0.17, 0.0),
    ),
    "Other": (
        (0.08, 0.01, 0.0, 0.0),
        (0.12, 0.02, 0.0, 0.0),
        (0.17, 0.13, 0.0, 0.0),
        (0.39, 0.0, 0.0, 0.0),
        (0.74, 0.0, 0.0, 0.0),
    ),
}
_CLIP = (0.01, 0.97)
_SHARPNESS = 1.25
_TARGET_RATE = 0.328

_MONTH_LOGIT = (-2.0, 0.7, 0.4, 0.3, 0.2, 0.2, 0.0, 0.0, 0.0, 0.2, 0.7, -1.2)
_PRICE_EDGES = (75, 100, 125)
_PRICE_LOGIT = (-0.9, -0.5, -0.1, 0.15)

_LEAD_PROBS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_LEAD_QUANTILES = {
    "Online": (0, 4, 17, 52, 113, 184, 400),
    "Offline": (0, 12, 39, 94, 188, 282, 443),
    "Corporate": (0, 0, 3, 8, 23, 64, 297),
    "Complementary": (0, 0, 0, 2, 8, 32, 150),
    "Aviation": (0, 1, 2, 4, 7, 13, 23),
}
_LEAD_MONTH = (0.4, 0.4, 0.55, 0.8, 0.9, 1.05, 1.1, 1.0, 1.0, 1.05, 0.7, 0.7)
_MAX_LEAD = 443

_FIRST_MONTH = np.datetime64("2017-07")
_ARRIVAL_SHARES = (
    *(0.01001, 0.02795, 0.04546, 0.05274, 0.01784, 0.02558),
    *(0.02795, 0.04595, 0.06602, 0.07542, 0.07162, 0.0883, 0.07049, 0.07716, 0.08165, 0.09384, 0.06431, 0.0577),
)

_PRICE_BY_SEGMENT = {"Online": 112.0, "Offline": 91.0, "Corporate": 83.0, "Complementary": 4.0, "Aviation": 101.0}
_PRICE_BY_MONTH = (0.76, 0.80, 0.90, 0.98, 1.09, 1.08, 1.05, 1.07, 1.13, 1.03, 0.89, 0.84)
_PRICE_SPREAD = 20.0
_PRICE_BY_ROOM = (0.0, 0.0, 0.0, 22.0, 24.0, 70.0, 55.0)

_ROOM_SHARES = (0.7755, 0.0191, 0.0002, 0.1670, 0.0073, 0.0266, 0.0043)
_MEALS = ("Meal Plan 1", "Meal Plan 2", "Meal Plan 3", "Not Selected")
_MEAL_SHARES = (0.7673, 0.0911, 0.0002, 0.1414)
_ADULT_SHARES = (0.0038, 0.2121, 0.7198, 0.0639, 0.0004)
_CHILD_SHARES = (0.9256, 0.0446, 0.0292, 0.0006)
_WEEKEND_SHARES = (0.4651, 0.2755, 0.2501, 0.0042, 0.0036, 0.0009, 0.0006)
_WEEK_SHARES = (0.0658, 0.2616, 0.3155, 0.2161, 0.0824, 0.0445, 0.0052, 0.0031, 0.0017, 0.0009, 0.0032)
_REQUEST_SHARES = (0.5452, 0.3135, 0.1203, 0.0186, 0.0022, 0.0002)

_IMPOSSIBLE_DATE = "2018-2-29"
_IMPOSSIBLE_SHARE = 0.001

# Bookings as of a day: of so many days, the share of them that the season leaves, and c of `_probabilities`.
_DAYS = 540
_USED_SLOTS = 0.74
_OFFSET = 0.05


def _draw(rng: np.random.Generator, shares: tuple[float, ...], rows: int) -> npt.NDArray[np.int64]:
    weights = np.asarray(shares) / np.sum(shares)
    return rng.choice(len(shares), size=rows, p=weights).astype(np.int64)


def _logit(p: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(p / (1.0 - p)), dtype=np.float64)


def _sigmoid(x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def _scores(frame: pd.DataFrame, month: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return logit(cell rate) + adjustments for each row, (n,). `month` is 0 to 11."""
    lead_cell = np.digitize(frame["lead time"], _LEAD_EDGES)
    request_cell = np.minimum(frame["special requests"].to_numpy(), 3)
    segment = frame["market segment type"].to_numpy()
    cell = np.empty(len(frame))
    for name in _SEGMENTS:
        rates = np.asarray(_CELL_RATES.get(name, _CELL_RATES["Other"]))
        rows = segment == name
        cell[rows] = rates[lead_cell[rows], request_cell[rows]]
    late_and_dear = (frame["lead time"] > 151) & (frame["average price"] > 100)
    adjustments = (
        np.asarray(_MONTH_LOGIT)[month]
        + np.asarray(_PRICE_LOGIT)[np.digitize(frame["average price"], _PRICE_EDGES)]
        + 2.0 * late_and_dear
        + 1.5 * (late_and_dear & (segment == "Offline"))
        - 2.0 * frame["car parking space"]
        - 1.2 * frame["repeated"]
        + 1.5 * (frame["number of weekend nights"] > 2)
        - 0.2 * (frame["number of adults"] == 1)
    ).to_numpy(dtype=np.float64)
    scores: npt.NDArray[np.float64] = _logit(np.clip(cell, *_CLIP)) + adjustments
    return scores


def _probabilities(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return P(cancelled) = sigmoid(k (score + c)) for each row, (n,); c makes the mean the target rate."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if _sigmoid(_SHARPNESS * (score + middle)).mean() < _TARGET_RATE:
            low = middle
        else:
            high = middle
    return _sigmoid(_SHARPNESS * (score + low))


def _priced(
    base: npt.NDArray[Any],
    month: npt.NDArray[Any],
    room: npt.NDArray[Any],
    noise: npt.NDArray[Any],
    free: npt.NDArray[Any],
) -> npt.NDArray[np.float64]:
    price = base * np.asarray(_PRICE_BY_MONTH)[month] + np.asarray(_PRICE_BY_ROOM)[room] + noise
    # Adding zero turns -0.0 into 0.0.
    return np.where(free, 0.0, np.clip(np.round(price, 2), 0.0, 540.0) + 0.0)


def _spelled(dates: npt.NDArray[Any], iso: npt.NDArray[np.bool_]) -> list[str]:
    days = pd.DatetimeIndex(dates)
    parts = zip(days.year, days.month, days.day, iso, strict=True)
    return [f"{y}-{m}-{d}" if is_iso else f"{m}/{d}/{y}" for y, m, d, is_iso in parts]


def synthetic_bookings(rows: int, seed: int, first_id: int = 1) -> pd.DataFrame:
    """Return synthetic bookings with the columns and spellings of `Booking.csv`, numbered from `first_id`.

    About one in a thousand has a date that does not exist, as in real files. The same arguments give the same rows.
    """
    rng = np.random.default_rng([seed, first_id])
    segment = np.asarray(_SEGMENTS, dtype=object)[_draw(rng, _SEGMENT_SHARES, rows)]
    arrival_index = _draw(rng, _ARRIVAL_SHARES, rows)
    months = _FIRST_MONTH + arrival_index
    month = (months.astype("datetime64[M]").astype(np.int64) % 12).astype(np.int64)
    days_in_month = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    arrival = months.astype("datetime64[D]") + np.floor(rng.random(rows) * days_in_month).astype(np.int64)

    lead = np.zeros(rows)
    price: npt.NDArray[np.float64] = np.zeros(rows)
    position = rng.random(rows)
    noise = rng.normal(0.0, _PRICE_SPREAD, rows)
    room = _draw(rng, _ROOM_SHARES, rows)
    for name in _SEGMENTS:
        own = segment == name
        lead[own] = np.interp(position[own], _LEAD_PROBS, _LEAD_QUANTILES[name])
        price[own] = _PRICE_BY_SEGMENT[name]
    lead = np.clip(np.round(lead * np.asarray(_LEAD_MONTH)[month]), 0, _MAX_LEAD).astype(np.int64)
    free = (segment == "Complementary") & (rng.random(rows) < 0.85)
    price = _priced(price, month, room, noise, free)

    repeat_share = np.select([segment == "Corporate", segment == "Complementary"], [0.30, 0.30], 0.005)
    repeated = (rng.random(rows) < repeat_share).astype(np.int64)
    frame = pd.DataFrame(
        {
            "Booking_ID": [f"INN{number:05d}" for number in range(first_id, first_id + rows)],
            "number of adults": _draw(rng, _ADULT_SHARES, rows),
            "number of children": _draw(rng, _CHILD_SHARES, rows),
            "number of weekend nights": _draw(rng, _WEEKEND_SHARES, rows),
            "number of week nights": _draw(rng, _WEEK_SHARES, rows),
            "type of meal": np.asarray(_MEALS, dtype=object)[_draw(rng, _MEAL_SHARES, rows)],
            "car parking space": (rng.random(rows) < 0.031).astype(np.int64),
            "room type": np.char.add("Room_Type ", (room + 1).astype(str)).astype(object),
            "lead time": lead,
            "market segment type": segment,
            "repeated": repeated,
            "P-C": repeated * rng.poisson(0.9, rows),
            "P-not-C": repeated * rng.geometric(0.18, rows),
            "average price": price,
            "special requests": _draw(rng, _REQUEST_SHARES, rows),
        }
    )
    canceled = rng.random(rows) < _probabilities(_scores(frame, month))
    spelled = np.asarray(_spelled(arrival, rng.random(rows) < 0.05), dtype=object)
    spelled[rng.random(rows) < _IMPOSSIBLE_SHARE] = _IMPOSSIBLE_DATE
    frame["date of reservation"] = spelled
    frame["booking status"] = np.where(canceled, CANCELED, NOT_CANCELED)
    in_order: pd.DataFrame = frame[list(CSV_HEADER)]
    return in_order


class _Slots:
    """Random numbers of consecutive bookings: of each booking the same ones, whichever is the first."""

    def __init__(self, seed: int, first: int, count: int) -> None:
        self._seed, self._first, self.count = seed, first, count
        self._columns = itertools.count()

    def uniform(self) -> npt.NDArray[np.float64]:
        """Return the next column of numbers between 0 and 1."""
        numbers = np.random.PCG64([self._seed, next(self._columns)]).advance(self._first)
        return np.random.Generator(numbers).random(self.count)

    def draw(self, shares: tuple[float, ...]) -> npt.NDArray[np.int64]:
        """Return places in `shares`, each as often as its share."""
        below = np.cumsum(shares)[:-1] / np.sum(shares)
        return np.searchsorted(below, self.uniform(), side="right").astype(np.int64)


def bookings_as_of(as_of: date, rows: int, seed: int) -> pd.DataFrame:
    """Return synthetic bookings as they stand on a day, about `rows`: those made in the 540 days up to it.

    A booking depends on its number and the seed alone. On a later day it is the same, until the 540 days have passed;
    its status is open until the guest cancels, or has arrived.
    """
    a_day = max(round(rows / (_DAYS * _USED_SLOTS)), 1)
    first = (as_of.toordinal() - _DAYS + 1) * a_day
    slots = _Slots(seed, first, _DAYS * a_day)
    numbers = np.arange(first, first + slots.count)
    booked = np.datetime64("0001-01-01") + (numbers // a_day - 1)
    frame = _stays(slots, booked)
    lead = frame["lead time"].to_numpy()
    arrival = booked + lead
    month = _month(arrival)
    cancels = slots.uniform() < _sigmoid(_SHARPNESS * (_scores(frame, month) + _OFFSET))
    cancelled_on = booked + np.floor(slots.uniform() * (lead + 1)).astype(np.int64)
    today = np.datetime64(as_of)
    known = np.where(cancels, cancelled_on <= today, arrival < today)
    frame["booking status"] = np.where(known, np.where(cancels, CANCELED, NOT_CANCELED), OPEN)
    frame["date of reservation"] = _spelled(arrival, np.ones(slots.count, dtype=bool))
    frame["Booking_ID"] = [f"SYN{number:09d}" for number in numbers]
    # Fewer guests come in some months: their bookings are not made.
    season = np.asarray(_ARRIVAL_SHARES[-12:])
    made = frame.loc[slots.uniform() < (season / season.max())[month], list(CSV_HEADER)]
    renumbered: pd.DataFrame = made.reset_index(drop=True)
    return renumbered


def _stays(slots: _Slots, booked: npt.NDArray[Any]) -> pd.DataFrame:
    """Return what is booked on each of the days, without dates and status."""
    from scipy.special import ndtri

    segment = np.asarray(_SEGMENTS, dtype=object)[slots.draw(_SEGMENT_SHARES)]
    position, base, lead = slots.uniform(), np.zeros(slots.count), np.zeros(slots.count)
    for name in _SEGMENTS:
        own = segment == name
        lead[own] = np.interp(position[own], _LEAD_PROBS, _LEAD_QUANTILES[name])
        base[own] = _PRICE_BY_SEGMENT[name]
    stretched = lead * np.asarray(_LEAD_MONTH)[_month(booked + lead.astype(np.int64))]
    lead = np.clip(np.round(stretched), 0, _MAX_LEAD).astype(np.int64)
    room, free = slots.draw(_ROOM_SHARES), (segment == "Complementary") & (slots.uniform() < 0.85)
    noise = _PRICE_SPREAD * np.asarray(ndtri(np.clip(slots.uniform(), 1e-12, 1 - 1e-12)))
    often = np.isin(segment, ("Corporate", "Complementary"))
    repeated = (slots.uniform() < np.where(often, 0.30, 0.005)).astype(np.int64)
    return pd.DataFrame(
        {
            "number of adults": slots.draw(_ADULT_SHARES),
            "number of children": slots.draw(_CHILD_SHARES),
            "number of weekend nights": slots.draw(_WEEKEND_SHARES),
            "number of week nights": slots.draw(_WEEK_SHARES),
            "type of meal": np.asarray(_MEALS, dtype=object)[slots.draw(_MEAL_SHARES)],
            "car parking space": (slots.uniform() < 0.031).astype(np.int64),
            "room type": np.char.add("Room_Type ", (room + 1).astype(str)).astype(object),
            "lead time": lead,
            "market segment type": segment,
            "repeated": repeated,
            # Geometric numbers, of mean .9 and 5.5, by their inverse distribution.
            "P-C": repeated * np.floor(np.log1p(-slots.uniform()) / np.log(0.47)).astype(np.int64),
            "P-not-C": repeated * (1 + np.floor(np.log1p(-slots.uniform()) / np.log(0.82)).astype(np.int64)),
            "average price": _priced(base, _month(booked + lead), room, noise, free),
            "special requests": slots.draw(_REQUEST_SHARES),
        }
    )


def _month(days: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the month of each day, 0 to 11."""
    return np.asarray(days.astype("datetime64[M]").astype(np.int64) % 12)


def synthetic_chunks(rows: int, seed: int, chunk: int = CHUNK) -> Iterator[pd.DataFrame]:
    """Yield synthetic bookings in frames of at most `chunk` rows, so that memory does not grow with `rows`."""
    for start in range(0, rows, chunk):
        yield synthetic_bookings(min(chunk, rows - start), seed, first_id=start + 1)


def csv_lines(frame: pd.DataFrame, *, header: bool) -> list[str]:
    """Return the rows as lines of CSV without line ends, after the header when `header`."""
    text = io.StringIO()
    frame.to_csv(text, index=False, header=header, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    return text.getvalue().splitlines()
