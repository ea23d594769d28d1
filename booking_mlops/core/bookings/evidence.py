"""What is counted over a whole file before any of its values is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """How many values are of a kind, and one of them."""

    count: int = 0
    example: str = ""

    def __add__(self, other: Tally) -> Tally:
        """Return the tally of both."""
        return Tally(self.count + other.count, self.example or other.example)


def tallied(found: Iterable[tuple[str, int, str | None]]) -> Mapping[str, Tally]:
    """Return the tally of each kind from kind, count and example; what is of no kind is left out."""
    tallies: dict[str, Tally] = {}
    for kind, count, example in found:
        if kind:
            tallies[kind] = tallies.get(kind, Tally()) + Tally(count, example or "")
    return tallies
