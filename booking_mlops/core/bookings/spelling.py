"""Categories that differ by case and blanks only are one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

MAX_SPELLINGS = 500
"""A column with more values than this holds no categories; its text stays as it is."""

Spellings = Mapping[str, Mapping[str, int]]
"""How often each spelling occurs, by column."""


def same(spelling: str) -> str:
    """Return what two spellings of a category have in common."""
    return "".join(spelling.split()).casefold()


def differing(values: Collection[str]) -> set[str]:
    """Return those spellings that another one differs from by case and blanks only."""
    by_category: dict[str, list[str]] = {}
    for value in values:
        by_category.setdefault(same(value), []).append(value)
    return {value for spellings in by_category.values() if len(spellings) > 1 for value in spellings}


def replacements(counts: Mapping[str, int], known: Collection[str]) -> dict[str, str]:
    """Return each spelling that is to be replaced, and its replacement.

    The spelling of a category is the one that the table has (`known`) when it has one, else the most frequent in
    `counts`, of several the first in the alphabet.
    """
    chosen: dict[str, str] = {}
    for spelling in sorted(counts, key=lambda one: (-counts[one], one)):
        chosen.setdefault(same(spelling), spelling)
    chosen.update({same(spelling): spelling for spelling in sorted(known, reverse=True)})
    return {spelling: chosen[same(spelling)] for spelling in counts if spelling != chosen[same(spelling)]}
