"""How dates are spelled: what a whole file allows, and SQL that reads them.

A date that begins with a four-digit year, or has its month in letters, can be read in one way only. Of the others the
order of day and month is decided for each sign that stands between them: a day above 12 gives it away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from booking_mlops.core.bookings.evidence import Tally
from booking_mlops.core.bookings.text import shown
from booking_mlops.core.names import nearest
from booking_mlops.errors import ConfigError, DataQualityError
from booking_mlops.table import sql_literal

DAY_FIRST, MONTH_FIRST, YEAR_FIRST = "day", "month", "year"
FORMATS: Mapping[str, str] = {"d/m/Y": DAY_FIRST, "m/d/Y": MONTH_FIRST, "Y-m-d": YEAR_FIRST}
_SIGNS = ("/", "-", ".")
_ORDERS = {"dmy": DAY_FIRST, "mdy": MONTH_FIRST, "ymd": YEAR_FIRST}
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip

Orders = Mapping[str, str]
"""The order of day, month and year for each sign between them."""


def order_of(date_format: str) -> str:
    """Return the order that a format names: `d/m/Y`, `dd.MM.yyyy` and `%d-%m-%Y` all mean that the day is first.

    Raises: ConfigError.
    """
    letters = re.sub(r"(.)\1+", r"\1", re.sub(r"[^a-z]", "", date_format.lower()))
    if letters not in _ORDERS:
        raise ConfigError(f"date_format: '{date_format}' is no order of day, month and year; "
                          f"{nearest(date_format, FORMATS)}")  # fmt: skip
    return _ORDERS[letters]


def class_sql(text: str) -> str:
    """Return SQL for what a date says about the order: its sign and `d`, `m` (only so), `?` (both) or `y` (years too).

    It is '' for a date that can be read in one way, and for what is no date.
    """
    cases = " ".join(f"WHEN contains({text}, '{sign}') THEN {_class_by_sign(text, sign)}" for sign in _SIGNS)
    return f"CASE {cases} ELSE '' END"


def _class_by_sign(text: str, sign: str) -> str:
    first = f"try_cast(substring_index({text}, '{sign}', 1) AS INT)"
    second = f"try_cast(substring_index(substring_index({text}, '{sign}', 2), '{sign}', -1) AS INT)"
    month, day = "BETWEEN 1 AND 12", "BETWEEN 13 AND 31"
    # 17-10-18 may begin with a year. Elsewhere nobody writes two digits of a year first.
    years = f"WHEN {text} RLIKE '^[0-9]{{1,2}}-[0-9]{{1,2}}-[0-9]{{2}}([ T]|$)' THEN '-y' " if sign == "-" else ""
    return (
        f"CASE {years}WHEN {first} {day} AND {second} {month} THEN '{sign}d' "
        f"WHEN {first} {month} AND {second} {day} THEN '{sign}m' "
        f"WHEN {first} {month} AND {second} {month} AND {first} <> {second} THEN '{sign}?' ELSE '' END"
    )


@dataclass(frozen=True)
class _Sign:
    """What the dates with one sign between their numbers say."""

    day: Tally
    month: Tally
    both: Tally
    years: Tally


def decide_orders(
    tallies: Mapping[str, Tally], date_format: str | None, source: str, tolerated: float = 0.0
) -> dict[str, str]:
    """Return the order for each sign that needs one, from how often each class of `class_sql` occurs in a file.

    `date_format` decides when it is given. Of the dates that can be read in one order only, up to the share `tolerated`
    may say the opposite: they are bad rows.

    Raises: DataQualityError when a file allows two orders, or contradicts itself.
    """
    if date_format is not None:
        return dict.fromkeys(_SIGNS, order_of(date_format))
    nothing = Tally()
    orders = {}
    for sign in _SIGNS:
        found = _Sign(*(tallies.get(sign + kind, nothing) for kind in "dm?y"))
        order = _order(found, sign, source, tolerated)
        if order:
            orders[sign] = order
    return orders


def _order(found: _Sign, sign: str, source: str, tolerated: float) -> str | None:
    told = "set date_format to d/m/Y or m/d/Y"
    if found.years.count:
        example = shown(found.years.example)
        raise DataQualityError(
            f'{source}: a date such as "{example}" can begin with its day, its month or its year; set date_format to '
            "d-m-Y, m-d-Y or Y-m-d"
        )
    if found.day.count and found.month.count:
        fewer, more = sorted((found.day.count, found.month.count))
        if fewer > tolerated * (fewer + more):
            raise DataQualityError(
                f'{source}: dates contradict each other: "{shown(found.day.example)}" has its day first, '
                f'"{shown(found.month.example)}" its month; {told}'
            )
    if found.day.count or found.month.count:
        return DAY_FIRST if found.day.count > found.month.count else MONTH_FIRST
    if found.both.count and sign != ".":
        raise DataQualityError(
            f'{source}: a date such as "{shown(found.both.example)}" can be read day first or month first, and no date '
            f"of the file has a day above 12; {told}"
        )
    # Between points the day is first wherever dates are written so.
    return DAY_FIRST if found.both.count else None


def day_sql(text: str) -> str:
    """Return SQL for a date's text without the time after it."""
    hours = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?( ?[AaPp][.]?[Mm][.]?)?"
    time = sql_literal(rf"[ T]{hours}( ?(Z|UTC|[+-][0-9]{{2}}:?[0-9]{{2}}))?$")
    return f"IF(contains({text}, ':'), regexp_replace({text}, {time}, ''), {text})"


def iso_sql(day: str, orders: Orders) -> str:
    """Return SQL for the date `day` with its numbers as year-month-day; what has no such form stays as it is.

    `day` is SQL for a date's text without a time; `orders` maps a sign to SQL for the order of the numbers around it.
    """
    cases = " ".join(
        f"WHEN contains({day}, '{sign}') THEN {_iso_by_sign(day, sign, orders.get(sign))}" for sign in _SIGNS
    )
    return f"CASE {cases} ELSE regexp_replace({day}, '^([0-9]{{4}})([0-9]{{2}})([0-9]{{2}})$', '$1-$2-$3') END"


def value_sql(day: str, iso: str) -> str:
    """Return SQL for the date that `day` spells, and `iso` as `iso_sql` says; NULL when it is none."""
    return (
        f"CASE WHEN {iso} RLIKE '^[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}$' THEN try_cast({iso} AS DATE) "
        f"WHEN {iso} RLIKE '^[0-9]{{2}}-[0-9]{{1,2}}-[0-9]{{1,2}}$' THEN try_cast(concat('20', {iso}) AS DATE) "
        f"WHEN {day} RLIKE '[A-Za-z]{{3}}' THEN {_with_month_in_letters(day)} END"
    )


def _iso_by_sign(day: str, sign: str, order: str | None) -> str:
    """Return SQL for a date as year-month-day; what does not have that form stays as it is."""
    year_first = day if sign == "-" else f"translate({day}, '{sign}', '-')"
    if order is None:
        return year_first
    two, between = "([0-9]{1,2})", f"[{sign}]"
    numbers = f"'^{two}{between}{two}{between}([0-9]{{4}}|[0-9]{{2}})$'"
    cases = [f"WHEN {day} RLIKE '^[0-9]{{4}}' THEN {year_first}"]
    for first, parts in ((MONTH_FIRST, "$3-$1-$2"), (DAY_FIRST, "$3-$2-$1")):
        # SQL for one file, whose order is known, is shorter.
        if order == sql_literal(first):
            cases.append(f"WHEN true THEN regexp_replace({day}, {numbers}, '{parts}')")
            break
        cases.append(f"WHEN {order} = '{first}' THEN regexp_replace({day}, {numbers}, '{parts}')")
    return f"CASE {' '.join(cases)} ELSE {year_first if sign == '-' else day} END"


def _with_month_in_letters(day: str) -> str:
    """Return SQL for a date such as `17 Oct 2018`, `17-October-18` or `Oct 17, 2018`."""
    names = ", ".join(
        f"'{name}', '{number}'"
        for number, month in enumerate(_MONTHS, start=1)
        for name in dict.fromkeys((month, month[:3], "sept" if number == 9 else month))
    )
    # Words and numbers, in any order: the month's is the one in letters, the year's the last.
    parts = f"split(regexp_replace(lower({day}), '[ ,./-]+', '-'), '-')"
    month = f"try_element_at(map({names}), get(filter(p, w -> w RLIKE '^[a-z]'), 0))"
    numbers = "filter(p, w -> w RLIKE '^[0-9]{1,4}$')"
    year = f"concat(IF(length(get({numbers}, 1)) = 2, '20', ''), get({numbers}, 1))"
    return (
        f"get(transform(filter(array({parts}), p -> size(p) = 3 AND size({numbers}) = 2), "
        f"p -> try_cast(concat({year}, '-', {month}, '-', get({numbers}, 0)) AS DATE)), 0)"
    )


def in_parts_sql(year: str, month: str, day: str) -> str:
    """Return SQL for the text of a date whose year, month and day are in columns of their own."""
    # Whole numbers that came through a data frame with holes end in .0.
    return " || '-' || ".join(f"regexp_replace({part}, '[.]0+$', '')" for part in (year, month, day))


def describe(orders: Sequence[str]) -> str:
    """Return how dates were read, for the summary."""
    names = {DAY_FIRST: "d/m/Y", MONTH_FIRST: "m/d/Y", YEAR_FIRST: "Y-m-d"}
    return ", ".join(names[order] for order in dict.fromkeys(orders))
