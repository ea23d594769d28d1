"""Text of a file in messages: short, and never what a terminal can't show."""

from __future__ import annotations

from booking_mlops.table import sql_literal

MAX_SHOWN = 60
_NOT_SHOWN = r"[\p{C}\p{Zl}\p{Zp}\x{fffd}]"

MISSING_WORDS = ("", "null", "nan", "na", "n/a", "#n/a", "<na>", "nat", "\\n")
"""What programs write for no value, in lower case."""


def shown(text: str) -> str:
    """Return `text` as a message quotes it: at most `MAX_SHOWN` characters, control characters as question marks."""
    clean = "".join(sign if sign.isprintable() else "?" for sign in text.strip())
    return clean if len(clean) <= MAX_SHOWN else clean[:MAX_SHOWN] + "…"


def shown_sql(text: str) -> str:
    """Return SQL for what `shown` says of the SQL expression `text`, in double quotes."""
    pattern = sql_literal(_NOT_SHOWN.replace("]", '"]'))
    return f"concat('\"', regexp_replace(left({text}, {MAX_SHOWN}), {pattern}, '?'), '\"')"


def is_missing_sql(text: str) -> str:
    """Return SQL that is true when the SQL expression `text` stands for no value."""
    words = ", ".join(map(sql_literal, MISSING_WORDS))
    # Most values are longer than the words, which takes less time to see than to turn them to lower case.
    longest = max(map(len, MISSING_WORDS))
    return f"({text} IS NULL OR octet_length({text}) <= {longest} AND lower({text}) IN ({words}))"
