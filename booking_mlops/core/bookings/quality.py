"""Rules for the lines of `Booking.csv`, and checks of the rows a model is trained on.

The rules are Spark SQL text: they run on the cluster, and can be read and tested without one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from booking_mlops.core.bookings.schema import CSV_COLUMNS, CSV_HEADER, CsvColumn
from booking_mlops.core.bookings.status import StatusWords
from booking_mlops.errors import DataQualityError

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


@dataclass(frozen=True)
class RowRules:
    """What decides whether a line of the file is a booking.

    It was made by the day `as_of`, and arrives at most `max_days_ahead` days after it or `max_days_back` before it.
    """

    ranges: Ranges
    status_words: StatusWords
    as_of: date
    max_days_ahead: int
    max_days_back: int


_WHOLE = r"^\\d{1,9}$"
_DECIMAL = r"^\\d{1,12}(\\.\\d{1,12})?$"
_DATE = r"^\\d{4}-\\d{1,2}-\\d{1,2}$"
_US_DATE = r"^(\\d{1,2})/(\\d{1,2})/(\\d{4})$"


def raw_name(column: CsvColumn) -> str:
    """Return the name of the column that holds a field as the text it is in the file."""
    return f"_raw_{column.name}"


def _text(column: CsvColumn) -> str:
    return f"trim(`{raw_name(column)}`)"


def _iso_date(column: CsvColumn) -> str:
    return f"regexp_replace({_text(column)}, '{_US_DATE}', '$3-$1-$2')"


def value_sql(column: CsvColumn, rules: RowRules) -> str:
    """Return SQL for the typed value of a column of text; NULL where the text can't be read.

    Dates are spelled `10/2/2017` (month first) or `2018-2-28`; one that does not exist is NULL.
    """
    text = _text(column)
    if column.kind == "date":
        return f"CASE WHEN {_iso_date(column)} RLIKE '{_DATE}' THEN try_cast({_iso_date(column)} AS DATE) END"
    if column.kind in ("whole", "flag"):
        return f"CASE WHEN {text} RLIKE '{_WHOLE}' THEN try_cast({text} AS INT) END"
    if column.kind == "decimal":
        return f"CASE WHEN {text} RLIKE '{_DECIMAL}' THEN try_cast({text} AS DOUBLE) END"
    if column.kind == "status":
        return rules.status_words.value_sql(text)
    return text


def _column_reason_sql(column: CsvColumn, rules: RowRules) -> str:
    text, value = _text(column), f"`{column.name}`"
    label = column.header.replace("'", "")
    wanted = {"whole": "a whole number", "flag": "0 or 1", "decimal": "a number", "date": "a date that exists"}
    if column.kind == "status":
        return f"CASE WHEN {value} IS NULL THEN {rules.status_words.unknown_sql(label, text)} END"
    cases = [f"WHEN `{raw_name(column)}` IS NULL OR {text} = '' THEN '{label}: empty'"]
    if column.kind in wanted:
        cases.append(f"WHEN {value} IS NULL THEN concat('{label}: \"', {text}, '\" is not {wanted[column.kind]}')")
    if column.kind == "flag":
        cases.append(f"WHEN {value} NOT IN (0, 1) THEN concat('{label}: \"', {text}, '\" is not 0 or 1')")
    if column.kind == "text":
        cases.append(f"WHEN length({text}) > {MAX_TEXT_LENGTH} THEN '{label}: longer than {MAX_TEXT_LENGTH}'")
    if column.name in rules.ranges:
        low, high = rules.ranges[column.name]
        cases.append(
            f"WHEN {value} NOT BETWEEN {low} AND {high} "
            f"THEN concat('{label}: \"', {text}, '\" is outside {low:g} to {high:g}')"
        )
    return f"CASE {' '.join(cases)} END"


def _dates_reason_sql(rules: RowRules) -> str:
    """Return SQL for what is wrong between a row's dates and `as_of`.

    The reason does not name that day: it stays the same until the row is good.
    """
    arrival = next(column for column in CSV_COLUMNS if column.kind == "date")
    arrives_in = f"datediff(`{arrival.name}`, DATE'{rules.as_of}')"
    is_more = f"concat('{arrival.header}: \"', {_text(arrival)}, '\" is more than "
    return (
        f"CASE WHEN {arrives_in} > {rules.max_days_ahead} THEN {is_more}{rules.max_days_ahead} days after as_of') "
        f"WHEN {arrives_in} < -{rules.max_days_back} THEN {is_more}{rules.max_days_back} days before as_of') "
        f"WHEN {arrives_in} > lead_time THEN '{arrival.header}: arrival minus lead time is after as_of' END"
    )


def reason_sql(rules: RowRules, malformed: str = "_malformed") -> str:
    """Return SQL for everything that is wrong with a line, as text, or '' when nothing is.

    The SQL reads `raw_row`, the raw and the typed columns, and `malformed`: the name of a boolean column that is true
    when the line does not have one field for each header.
    """
    reasons = ", ".join([*(_column_reason_sql(column, rules) for column in CSV_COLUMNS), _dates_reason_sql(rules)])
    return (
        # U+FFFD replaces bytes that are not UTF-8, as in a file in Latin-1. RLIKE finds it; `contains` does not, since
        # it compares the bytes as they were read.
        "CASE WHEN raw_row RLIKE '\ufffd' THEN 'not UTF-8 text: save the file as UTF-8' "
        f"WHEN {malformed} THEN 'not {len(CSV_COLUMNS)} fields: the line is cut, or has a stray comma or quote' "
        f"ELSE concat_ws('; ', {reasons}) END"
    )


def check_header(line: str, source: str) -> None:
    """Refuse a file whose first line is not the header of `Booking.csv`.

    `source` is the name of the file, for the message. Raises: DataQualityError that says how the line differs.
    """
    text = line.lstrip("\ufeff").rstrip("\r\n")
    try:
        found = [name.strip() for name in next(csv.reader(io.StringIO(text)), [])]
    except csv.Error:
        raise DataQualityError(f"{source}: line 1 is not the header of Booking.csv: it is no text at all") from None
    if tuple(found) == CSV_HEADER:
        return
    for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(text.split(delimiter)) == len(CSV_HEADER):
            raise DataQualityError(f"{source}: columns are separated by {name}; save the file with commas")
    missing = [name for name in CSV_HEADER if name not in found]
    unknown = [name for name in found if name not in CSV_HEADER]
    if not missing and not unknown:
        raise DataQualityError(
            f"{source}: the columns are there but not in the expected order: {', '.join(CSV_HEADER)}"
        )
    parts = []
    if missing:
        parts.append(f"missing {', '.join(missing)}")
    if unknown:
        parts.append(f"unknown {', '.join(name[:40] or '(no name)' for name in unknown[:20])}")
    raise DataQualityError(f"{source}: line 1 is not the header of Booking.csv: {'; '.join(parts)}")


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
