"""Finds the bookings' columns in the first line of a file: by name, whatever the order and the spelling."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from booking_mlops.core.bookings.schema import CSV_COLUMNS, DATE_PARTS
from booking_mlops.core.bookings.text import shown
from booking_mlops.errors import DataQualityError

SEPARATORS: Mapping[str, str] = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between two fields, and its name."""

DATE = next(column.name for column in CSV_COLUMNS if column.kind == "date")
PARTS = tuple(DATE_PARTS)
_ENOUGH_TO_BE_A_HEADER = 3


@dataclass(frozen=True)
class Header:
    """Where the columns are in a line: `places` maps the name of a column, or of a part of the date, to its place.

    `names` are the file's own, in its order; `line` is the number of the header's line.
    """

    names: tuple[str, ...]
    places: Mapping[str, int]
    separator: str = ","
    line: int = 1

    @property
    def extra(self) -> tuple[str, ...]:
        """The columns of the file that no table has."""
        used = set(self.places.values())
        return tuple(shown(name) or "(no name)" for place, name in enumerate(self.names) if place not in used)

    def label(self, column: str) -> str:
        """Return how the file calls a column; of a date in three parts, its three names."""
        wanted = PARTS if column not in self.places and column == DATE else (column,)
        return ", ".join(shown(self.names[self.places[name]]) for name in wanted)


def plain(name: str) -> str:
    """Return a header without case, blanks, underscores and other signs, as two of them are compared."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _known_names() -> dict[str, str]:
    """Return the plain spellings of each column's headers, and the column."""
    return {
        plain(spelling): column.name
        for column in CSV_COLUMNS
        for spelling in (column.header, column.name, *column.aliases)
    }


KNOWN = _known_names()
_KNOWN_PARTS = {plain(spelling): part for part, spellings in DATE_PARTS.items() for spelling in spellings}


def find_header(lines: Sequence[str], source: str, columns: Mapping[str, str], separator: str | None) -> Header:
    """Return the header that the first of `lines` is, read with the separator that finds most columns.

    `columns` maps a column, or a part of the date (year, month, day), to the file's own name of it; `source` is the
    file's name for messages. A line `sep=;`, which Excel writes and reads, may stand above the header.

    Raises: DataQualityError that says how the line differs from a header.
    """
    first = lines[0].lstrip("\ufeff").rstrip("\r\n") if lines else ""
    announced = re.fullmatch(r'"?sep=(.)"?', first)
    if announced and len(lines) > 1:
        found = _matched(lines[1].rstrip("\r\n"), columns, separator or announced[1])
        return _checked(found, lines[1:], source, columns, line=2)
    candidates = [_matched(first, columns, one) for one in ([separator] if separator else SEPARATORS)]
    best = max(candidates, key=lambda found: (len(found.places), len(found.names)))
    return _checked(best, lines, source, columns, line=1)


def header_of_names(names: Sequence[str], source: str, columns: Mapping[str, str]) -> Header:
    """Return the header that the column names of a table or of a Parquet file are.

    Raises: DataQualityError as `find_header` does.
    """
    return _checked(_places(tuple(names), columns, ","), [], source, columns, line=0)


@dataclass(frozen=True)
class _Found:
    names: tuple[str, ...]
    places: Mapping[str, int]
    separator: str
    twice: tuple[str, ...] = ()


def _matched(line: str, columns: Mapping[str, str], separator: str) -> _Found:
    try:
        names = tuple(name.strip() for name in next(csv.reader(io.StringIO(line), delimiter=separator), []))
    except csv.Error:
        names = ()
    return _places(names, columns, separator)


def _places(names: tuple[str, ...], columns: Mapping[str, str], separator: str) -> _Found:
    """Match names of the file to columns: those of `columns` first, then a date in three parts, then the known ones."""
    spellings = [plain(name) for name in names]
    places: dict[str, int] = {}
    for column, own in columns.items():
        exact = [place for place, name in enumerate(names) if name == own.strip()]
        alike = [place for place, spelling in enumerate(spellings) if spelling == plain(own)]
        if exact or alike:
            places[column] = (exact or alike)[0]
    if DATE not in places:
        found = {part: place for place, spelling in enumerate(spellings) if (part := _KNOWN_PARTS.get(spelling))}
        parts = {**found, **{part: places[part] for part in PARTS if part in places}}
        if set(parts) == set(PARTS):
            places.update(parts)
    twice = []
    for place, spelling in enumerate(spellings):
        name = KNOWN.get(spelling)
        # A mapped column is what the user says; a part of a date is not the whole date.
        if name is None or name in columns or place in places.values() or (name == DATE and "day" in places):
            continue
        if name in places:
            twice.append(f"'{shown(names[places[name]])}' and '{shown(names[place])}' are both {name}")
        places.setdefault(name, place)
    return _Found(names, places, separator, tuple(twice))


def _checked(found: _Found, lines: Sequence[str], source: str, columns: Mapping[str, str], line: int) -> Header:
    where = f"{source}: " + (f"line {line} is not the header of the bookings" if line else "not a table of bookings")
    for column, own in columns.items():
        if column not in found.places:
            raise DataQualityError(f"{source}: no column '{own}', which columns.{column} names{_near(own, found)}")
    if len(found.places) < _ENOUGH_TO_BE_A_HEADER and lines:
        raise DataQualityError(f'{where}: "{shown(lines[0])}"{_header_below(lines, columns)}')
    if found.twice:
        raise DataQualityError(f"{where}: {'; '.join(found.twice)}: say which with columns")
    has_date = DATE in found.places or "day" in found.places
    missing = [
        f"{column.header}{_near(column.header, found)}"
        for column in CSV_COLUMNS
        if column.name not in found.places and not (column.name == DATE and has_date)
    ]
    if missing:
        raise DataQualityError(f"{where}: missing {', '.join(missing)}; name it with columns when it has another name")
    return Header(found.names, dict(found.places), found.separator, line)


def _near(name: str, found: _Found) -> str:
    """Return the unused column of the file whose name is most like `name`, for a message; '' when none is."""
    used = set(found.places.values())
    free = {plain(own): own for place, own in enumerate(found.names) if place not in used and plain(own)}
    close = difflib.get_close_matches(plain(name), free, n=1, cutoff=0.5)
    return f" (nearest there: '{shown(free[close[0]])}')" if close else ""


def _header_below(lines: Sequence[str], columns: Mapping[str, str]) -> str:
    for number, line in enumerate(lines[1:], start=2):
        if any(len(_matched(line, columns, one).places) >= len(CSV_COLUMNS) // 2 for one in SEPARATORS):
            return f"; the header is on line {number}: remove what stands above it"
    return ""
