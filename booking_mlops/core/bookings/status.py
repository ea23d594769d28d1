"""How the status of a booking is spelled: words for kept, cancelled and open, and SQL that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from booking_mlops.core.bookings.schema import CANCELED, NOT_CANCELED, OPEN
from booking_mlops.core.bookings.text import shown_sql
from booking_mlops.errors import ConfigError
from booking_mlops.table import sql_literal

_MISSING = ("", "null", "nan", "na", "n/a", "none")
"""An empty status, and what programs write for one, as `_normalized` leaves it: the booking is open."""

_IGNORED = " _-"


def _normalized(word: str | int) -> str:
    return str(word).translate(dict.fromkeys(map(ord, _IGNORED))).lower()


@dataclass(frozen=True)
class StatusWords:
    """The words for each state; case, blanks, underscores and hyphens make no difference.

    A list that is given replaces that list. An empty status, NULL, NaN, NA, N/A and None are always open.
    """

    kept: tuple[str | int, ...] = (
        *("Not_Canceled", "Not_Cancelled", "Kept", "Check-Out", "Checked-Out", "Completed", "Stayed", "Departed"),
        0,
    )
    cancelled: tuple[str | int, ...] = ("Canceled", "Cancelled", "No-Show", 1)
    open: tuple[str | int, ...] = (
        *("Open", "Booked", "Confirmed", "Pending", "Reserved", "Tentative", "Guaranteed"),
        *("Check-In", "Checked-In", "In-House", "Due-In"),
    )

    def __post_init__(self) -> None:
        if not (self.kept and self.cancelled):
            raise ConfigError("status_words: kept and cancelled need at least one word each")
        states = dict.fromkeys(_MISSING, "open")
        for state in ("kept", "cancelled", "open"):
            for word in getattr(self, state):
                other = states.setdefault(_normalized(word), state)
                if other != state:
                    raise ConfigError(f"status_words: '{word}' is listed as {state}, and stands for {other} already")

    @property
    def normalized(self) -> Mapping[str, tuple[str, ...]]:
        """The words of each status as they are compared, sorted; equal when two lists mean the same."""
        return {
            NOT_CANCELED: tuple(sorted(set(map(_normalized, self.kept)))),
            CANCELED: tuple(sorted(set(map(_normalized, self.cancelled)))),
            OPEN: tuple(sorted({*_MISSING, *map(_normalized, self.open)})),
        }

    def value_sql(self, text: str) -> str:
        """Return SQL for the status that the SQL expression `text` spells; NULL when no list has the word."""
        statuses = ", ".join(
            f"{sql_literal(word)}, '{status}'" for status, words in self.normalized.items() for word in words
        )
        own = [sql_literal(status) for status, words in self.normalized.items() if _normalized(status) in words]
        otherwise = f"try_element_at(map({statuses}), {_compared(text)})"
        # Our own words are quickly told.
        return f"IF({text} IN ({', '.join(own)}), {text}, {otherwise})" if own else otherwise

    def unknown_sql(self, label: str, text: str) -> str:
        """Return SQL that says of a word on none of the lists which of theirs is spelled most alike.

        `label` is the column's name in the file, `text` a SQL expression.
        """
        found = _compared(text)
        distances = ", ".join(
            f"struct(levenshtein({found}, {sql_literal(_normalized(word))}), {sql_literal(str(word))} AS word)"
            for word in (*self.kept, *self.cancelled, *self.open)
        )
        before, after = sql_literal(f"{label}: "), sql_literal(" is not in status_words; the nearest there is ")
        return f"concat({before}, {shown_sql(text)}, {after}, array_min(array({distances})).word)"


def _compared(text: str) -> str:
    """Return SQL that does to `text` what `_normalized` does to a word."""
    return f"lower(translate(coalesce({text}, ''), '{_IGNORED}', ''))"
