"""How numbers are spelled: which sign stands before decimals in a whole file, and SQL that reads them."""

from __future__ import annotations

from collections.abc import Mapping

from booking_mlops.core.bookings.evidence import Tally
from booking_mlops.core.bookings.text import shown
from booking_mlops.errors import DataQualityError
from booking_mlops.table import sql_literal

POINT, COMMA = ".", ","
_OTHER = {POINT: COMMA, COMMA: POINT}

_CURRENCY = r"(?:[A-Z]{0,3}\p{Sc}|[A-Z]{3}|kr|Kč|zł|Fr[.]?|Rs[.]?|Ft|lei)"
_YES, _NO = ("yes", "y", "true", "t"), ("no", "n", "false", "f")


def _bare(text: str, *, price: bool) -> str:
    """Return SQL for a number without blanks and apostrophes between its thousands, and a price without currency."""
    gaps = sql_literal("(?<=[0-9])[ \u00a0\u202f'’](?=[0-9]{3})")
    bare = f"regexp_replace({text}, {gaps}, '')"
    currency = sql_literal(rf"^(-?)\s*{_CURRENCY}\s*(?=[-0-9])|(?<=[0-9])\s*{_CURRENCY}$")
    return f"regexp_replace({bare}, {currency}, '$1')" if price else bare


def class_sql(text: str, highest: float) -> str:
    """Return SQL for what a number says about the decimal sign: `.` or `,` when it can only be that.

    It is `?.` or `?,` when the sign may also stand between thousands, and '' for anything else. A number that would be
    above `highest` when it had thousands has decimals.
    """
    cases = []
    for sign, other in _OTHER.items():
        mark, between = f"[{sign}]", f"[{other}]"
        whole = f"try_cast(replace(b, '{sign}', '') AS DOUBLE)"
        cases += [
            f"WHEN b RLIKE '^-?[1-9][0-9]{{0,2}}{mark}[0-9]{{3}}$' "
            f"THEN IF(abs({whole}) > {highest}, '{sign}', '?{sign}')",
            f"WHEN b RLIKE '^-?[0-9]+{mark}[0-9]+$' THEN '{sign}'",
            f"WHEN b RLIKE '^-?[0-9]{{1,3}}({between}[0-9]{{3}})+{mark}[0-9]+$' THEN '{sign}'",
            f"WHEN b RLIKE '^-?[0-9]{{1,3}}({between}[0-9]{{3}}){{2,}}$' THEN '{sign}'",
        ]
    otherwise = f"transform(array({_bare(text, price=True)}), b -> CASE {' '.join(cases)} ELSE '' END)"
    # Most numbers are one of these two, which are quickly told.
    return (
        f"CASE WHEN {text} RLIKE '^[0-9]+([.][0-9]{{1,2}})?$' THEN IF(contains({text}, '.'), '.', '') "
        f"ELSE get({otherwise}, 0) END"
    )


def decide_decimal(
    tallies: Mapping[str, Tally], decimal: str | None, source: str, header: str, tolerated: float = 0.0
) -> str:
    """Return the decimal sign, from how often each class of `class_sql` occurs in a file; `decimal` when it is given.

    `header` names the column. Of the numbers that leave no doubt, up to the share `tolerated` may say the opposite:
    they are bad rows.

    Raises: DataQualityError when a file allows both signs, or contradicts itself.
    """
    if decimal is not None:
        return decimal
    point, comma = (tallies.get(sign, Tally()) for sign in (POINT, COMMA))
    told = 'set decimal to "." or ","'
    fewer, more = sorted((point.count, comma.count))
    if fewer and fewer > tolerated * (fewer + more):
        raise DataQualityError(
            f'{source}: {header}: numbers contradict each other: "{shown(point.example)}" and '
            f'"{shown(comma.example)}"; {told}'
        )
    if more:
        return POINT if point.count > comma.count else COMMA
    doubtful = [tallies[kind] for kind in ("?.", "?,") if kind in tallies]
    if doubtful:
        raise DataQualityError(
            f'{source}: {header}: a number such as "{shown(doubtful[0].example)}" may have thousands or decimals, and '
            f"no other of the file says which; {told}"
        )
    return POINT


def _spelled_otherwise(text: str, decimal: str, read: str, *, price: bool) -> str:
    """Return SQL that reads a number with thousands, a currency or the file's decimal sign.

    `decimal` is SQL for that sign, `read` SQL for the value of `n`: the number with a decimal point and no thousands.
    Spark compiles no code for these functions, which few numbers need.
    """
    swapped = "b" if decimal == sql_literal(POINT) else f"IF({decimal} = ',', translate(b, '.,', ',.'), b)"
    thousands = r"'^-?[0-9]{1,3}(,[0-9]{3})+([.][0-9]{1,12})?$'"
    with_point = f"transform(transform(array({text}), t -> {_bare('t', price=price)}), b -> {swapped})"
    number = f"transform({with_point}, s -> IF(s RLIKE {thousands}, replace(s, ',', ''), s))"
    return f"get(transform({number}, n -> {read}), 0)"


def decimal_sql(text: str, decimal: str) -> str:
    """Return SQL for the number that the SQL expression `text` spells; NULL when it is none."""
    plain = f"{text} RLIKE '^[0-9]{{1,12}}([.][0-9]{{1,12}})?$' AND ({decimal} = '.' OR NOT contains({text}, '.'))"
    read = "IF(n RLIKE '^-?[0-9]{1,12}([.][0-9]{1,12})?$', try_cast(n AS DOUBLE), NULL)"
    otherwise = _spelled_otherwise(text, decimal, read, price=True)
    return f"CASE WHEN {plain} THEN try_cast({text} AS DOUBLE) ELSE {otherwise} END"


def whole_sql(text: str, decimal: str) -> str:
    """Return SQL for the whole number that the SQL expression `text` spells, `2.0` included; NULL when it is none."""
    # Three noughts may be thousands.
    spelled = "'^-?[0-9]{1,9}([.](0{1,2}|0{4,}))?$'"
    read = f"IF(n RLIKE {spelled}, try_cast(substring_index(n, '.', 1) AS INT), NULL)"
    otherwise = _spelled_otherwise(text, decimal, read, price=False)
    # Most have one digit, which is quickly read.
    return (
        f"CASE WHEN octet_length({text}) = 1 AND {text} BETWEEN '0' AND '9' THEN ascii({text}) - 48 "
        f"WHEN {text} RLIKE '^[0-9]{{1,9}}$' THEN try_cast({text} AS INT) ELSE {otherwise} END"
    )


def flag_sql(text: str, decimal: str) -> str:
    """Return SQL for 0 or 1 that the SQL expression `text` spells, in figures or words; NULL when it is no number."""
    yes, no = (", ".join(map(sql_literal, words)) for words in (_YES, _NO))
    return (
        f"CASE WHEN {text} IN ('0', '1') THEN ascii({text}) - 48 WHEN lower({text}) IN ({yes}) THEN 1 "
        f"WHEN lower({text}) IN ({no}) THEN 0 ELSE {whole_sql(text, decimal)} END"
    )
