"""Puts together lines whose quoted field goes over a line's end."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

MAX_LINES = 200
"""A record of more lines than this is a stray quote."""


@dataclass(frozen=True)
class Record:
    """Lines `first` to `last` of a file, which are one record; `text` are those lines."""

    first: int
    last: int
    text: str


def opens_or_closes(line: str) -> bool:
    """Say whether a quoted field begins or ends in this line and does not do both."""
    return line.count('"') % 2 == 1


def joined_records(lines: Mapping[int, str], fields: int, separator: str) -> list[Record]:
    """Return the records that go over several lines, from the lines between those that `opens_or_closes` finds.

    `lines` maps a line's number to its text. A quote that is never closed, or whose lines together do not have `fields`
    fields, is a stray one: its line stays alone, and is a bad row by itself.
    """
    odd = sorted(number for number, line in lines.items() if opens_or_closes(line))
    records: list[Record] = []
    place = 0
    while place + 1 < len(odd):
        first, last = odd[place], odd[place + 1]
        between = [lines.get(number) for number in range(first, last + 1)] if last - first < MAX_LINES else [None]
        text = "\n".join(line for line in between if line is not None)
        if None not in between and _has_fields(text, fields, separator):
            records.append(Record(first, last, text))
            place += 2
        else:
            place += 1
    return records


def _has_fields(text: str, fields: int, separator: str) -> bool:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:
        return False
    return len(rows) == 1 and len(rows[0]) == fields
