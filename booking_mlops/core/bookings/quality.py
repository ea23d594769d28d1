"""Rules for the lines of a file of bookings, and checks of the rows a model is trained on.

The rules are Spark SQL text: they run on the cluster, and can be read and tested without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from booking_mlops.core.bookings import dates, numbers
from booking_mlops.core.bookings.header import DATE, Header
from booking_mlops.core.bookings.schema import CSV_COLUMNS, CsvColumn
from booking_mlops.core.bookings.status import StatusWords
from booking_mlops.core.bookings.text import is_missing_sql, shown_sql
from booking_mlops.table import sql_literal

Ranges = Mapping[str, tuple[float, float]]
"""Column name to lowest and highest possible value, both included."""

DEFAULT_RANGES: Ranges = {
    "lead_time": (0.0, 1000.0),
    "average_price": (0.0, 2000.0),
    "number_of_adults": (0.0, 20.0),
    "number_of_children": (0.0, 20.0),
    "number_of_weekend_nights": (0.0, 60.0),
    "number_of_week_nights": (0.0, 120.0),
    "p_c": (0.0, 500.0),
    "p_not_c": (0.0, 500.0),
    "special_requests": (0.0, 20.0),
}
"""Inclusive bounds of numeric columns; an environment's `ranges` replace single ones."""

MAX_TEXT_LENGTH = 100
REPLACED_BY = "Booking_ID: replaced by line "
"""Begins the reason of a line that is sound, and that a later line of its booking replaces."""


@dataclass(frozen=True)
class RowRules:
    """What decides whether a line of the file is a booking.

    It was made by the day `as_of`, and arrives at most `max_days_ahead` days after it or `max_days_back` before it.
    With `reject_empty_stays` it has a guest and a night.
    """

    ranges: Ranges
    status_words: StatusWords
    as_of: date
    max_days_ahead: int
    max_days_back: int
    reject_empty_stays: bool = False


def raw_name(column: CsvColumn) -> str:
    """Return the name of the column that holds a field as the text it is in the file, without blanks around it."""
    return f"_raw_{column.name}"


def _text(column: CsvColumn) -> str:
    return f"`{raw_name(column)}`"


DAY, ISO = "_day", "_iso"
"""Columns with a line's date of arrival as `dates.day_sql` and `dates.iso_sql` leave it."""


def value_sql(column: CsvColumn, rules: RowRules, decimal: str) -> str:
    """Return SQL for the typed value of a column of text; NULL where the text can't be read.

    `decimal` is SQL for the decimal sign.
    """
    text = _text(column)
    if column.kind == "date":
        return dates.value_sql(DAY, ISO)
    if column.kind == "whole":
        return numbers.whole_sql(text, decimal)
    if column.kind == "flag":
        return numbers.flag_sql(text, decimal)
    if column.kind == "decimal":
        return numbers.decimal_sql(text, decimal)
    if column.kind == "status":
        return rules.status_words.value_sql(text)
    return f"IF({is_missing_sql(text)}, NULL, {text})"


def _column_reason_sql(column: CsvColumn, rules: RowRules, label: str) -> str:
    text, value = _text(column), f"`{column.name}`"
    wanted = {"whole": "a whole number", "flag": "0 or 1", "decimal": "a number", "date": "a date that exists"}
    if column.kind == "status":
        return f"CASE WHEN {value} IS NULL THEN {rules.status_words.unknown_sql(label, text)} END"

    def says(what: str) -> str:
        return f"concat({sql_literal(f'{label}: ')}, {shown_sql(text)}, ' {what}')"

    cases = [f"WHEN {value} IS NULL AND {is_missing_sql(text)} THEN {sql_literal(f'{label}: empty')}"]
    if column.kind in wanted:
        cases.append(f"WHEN {value} IS NULL THEN {says(f'is not {wanted[column.kind]}')}")
    if column.kind == "flag":
        cases.append(f"WHEN {value} NOT IN (0, 1) THEN {says('is not 0 or 1')}")
    if column.kind == "text":
        too_long = sql_literal(f"{label}: longer than {MAX_TEXT_LENGTH}")
        is_longer = f"octet_length({text}) > {MAX_TEXT_LENGTH} AND length({text}) > {MAX_TEXT_LENGTH}"
        cases.append(f"WHEN {is_longer} THEN {too_long}")
    if column.name in rules.ranges:
        low, high = rules.ranges[column.name]
        cases.append(f"WHEN {value} NOT BETWEEN {low} AND {high} THEN {says(f'is outside {low:g} to {high:g}')}")
    return f"CASE {' '.join(cases)} END"


NO_GUESTS = "number_of_adults + number_of_children = 0"
NO_NIGHTS = "number_of_weekend_nights + number_of_week_nights = 0"
"""SQL that is true of a booking of nobody, and of one without a night: day use, or a mistake."""


def _dates_reason_sql(rules: RowRules, label: str) -> str:
    """Return SQL for what is wrong between a row's dates and `as_of`.

    The reason does not name that day: it stays the same until the row is good.
    """
    arrival = next(column for column in CSV_COLUMNS if column.kind == "date")
    arrives_in = f"datediff(`{arrival.name}`, DATE'{rules.as_of}')"
    is_more = f"concat({sql_literal(f'{label}: ')}, {shown_sql(_text(arrival))}, ' is more than "
    return (
        f"CASE WHEN {arrives_in} > {rules.max_days_ahead} THEN {is_more}{rules.max_days_ahead} days after as_of') "
        f"WHEN {arrives_in} < -{rules.max_days_back} THEN {is_more}{rules.max_days_back} days before as_of') "
        f"WHEN {arrives_in} > lead_time THEN {sql_literal(f'{label}: arrival minus lead time is after as_of')} END"
    )


_SPECIAL = r'["\x00-\x1f\x{fffd}]'
_NOT_UTF_8 = "not UTF-8 text: set encoding, such as latin-1, or save it as UTF-8"


def _is_replaced_sql(text: str) -> str:
    """Return SQL that is true of a text with U+FFFD, which replaces bytes that are not UTF-8, as of a file in Latin-1.

    RLIKE finds it; `contains` does not, since it compares the bytes as they were read.
    """
    return f"{text} RLIKE '\ufffd'"


def is_special_sql(text: str) -> str:
    """Return SQL that is true of a text with a quote, a control character, or bytes that are not UTF-8."""
    return f"{text} RLIKE {sql_literal(_SPECIAL)}"


def readable_sql(text: str, reason: str) -> str:
    """Return SQL for a line as any reader of a table can read it: one whose bytes are not UTF-8 is taken as Latin-1.

    That keeps every byte. `text` and `reason` are the names of columns; a U+FFFD that the file itself has stays.
    """
    without = f"replace({text}, '\ufffd', '')"
    is_other = f"{reason} = {sql_literal(_NOT_UTF_8)} AND {_is_replaced_sql(without)}"
    return f"IF({is_other}, decode(CAST({text} AS BINARY), 'ISO-8859-1'), {text})"


def reason_sql(rules: RowRules, header: Header) -> str:
    """Return SQL for everything that is wrong with a line, as text, or '' when nothing is.

    The SQL reads `raw_row`, the raw and the typed columns, and two boolean ones: `_special` is as `is_special_sql`
    says, `_malformed` true when it does not have one field for each name of the header.
    """
    labels = {column.name: header.label(column.name) for column in CSV_COLUMNS}
    reasons = [_column_reason_sql(column, rules, labels[column.name]) for column in CSV_COLUMNS]
    reasons.append(_dates_reason_sql(rules, labels[DATE]))
    if rules.reject_empty_stays:
        reasons += [f"CASE WHEN {NO_GUESTS} THEN 'no guests' END", f"CASE WHEN {NO_NIGHTS} THEN 'no nights' END"]
    return (
        f"CASE WHEN _special AND {_is_replaced_sql('raw_row')} THEN {sql_literal(_NOT_UTF_8)} "
        f"WHEN _malformed THEN 'not {len(header.names)} fields: the line is cut, or has a stray separator or quote' "
        f"ELSE concat_ws('; ', {', '.join(reasons)}) END"
    )


@dataclass(frozen=True)
class TrainingDataProfile:
    """What the gates check of a training set: constant features, and by feature the share of values out of range."""

    constant: tuple[str, ...]
    out_of_range: Mapping[str, float]


def profile(features: pd.DataFrame, names: Sequence[str], ranges: Ranges) -> TrainingDataProfile:
    """Return which of the features `names` are constant, and the share of rows outside each range, NULL included."""
    constant = tuple(name for name in names if features[name].nunique(dropna=False) <= 1)
    outside: dict[str, float] = {}
    for name, (low, high) in ranges.items():
        if name in features.columns:
            values = features[name].to_numpy(dtype=float)
            outside[name] = float(np.mean(~((values >= low) & (values <= high)))) if len(values) else 0.0
    return TrainingDataProfile(constant, outside)
