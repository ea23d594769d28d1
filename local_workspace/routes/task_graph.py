"""Draw the task graph of a run: a box for each task and a curve for each dependency, in lines that fit the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Pixels: a box, the distance of two boxes' left or upper edges, and the free space around the drawing.
BOX_WIDTH, BOX_HEIGHT = 190, 48
_ACROSS, _DOWN, _BETWEEN_LINES, _MARGIN = 230, 66, 20, 10
# Boxes beside each other on a desktop's page, which is 1,060 pixels wide inside, and on a phone's.
WIDE, NARROW = 4, 1


def task_graph(needs: Mapping[str, Sequence[str]], boxes_in_line: int) -> dict[str, Any]:
    """Return a drawing's width and height, the place (x, y) of each task's box, and the curves, as paths of SVG.

    `needs` holds the tasks that each task depends on. A task's column is the number of tasks on the longest way to it;
    the columns that do not fit into a line go into the next.
    """
    columns = _columns({key: [need for need in before if need in needs] for key, before in needs.items()})
    places: dict[str, tuple[int, int]] = {}
    top = _MARGIN
    for line in _lines(columns, boxes_in_line):
        for across, keys in enumerate(line):
            for down, key in enumerate(keys):
                places[key] = (_MARGIN + across * _ACROSS, top + down * _DOWN)
        top += max(len(keys) for keys in line) * _DOWN + _BETWEEN_LINES
    edges = [_edge(places[need], places[key]) for key, before in needs.items() for need in before if need in places]
    widest = max((x for x, _ in places.values()), default=0)
    # The curves beside a single column need room too.
    width = widest + (BOX_WIDTH + _MARGIN if widest > _MARGIN else _ACROSS + _MARGIN)
    return {"places": places, "edges": edges, "width": width, "height": top - _BETWEEN_LINES}


def _columns(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    column: dict[str, int] = {}
    while len(column) < len(needs):
        for key, before in needs.items():
            if key not in column and column.keys() >= set(before):
                column[key] = 1 + max((column[need] for need in before), default=-1)
    return [[key for key in needs if column[key] == number] for number in range(max(column.values(), default=-1) + 1)]


def _lines(columns: list[list[str]], boxes_in_line: int) -> list[list[list[str]]]:
    if boxes_in_line == 1:
        return [[[key]] for keys in columns for key in keys]
    return [columns[first : first + boxes_in_line] for first in range(0, len(columns), boxes_in_line)]


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Return the curve from a box to one that depends on it."""
    (x1, y1), (x2, y2) = start, end
    right, middle, half = x1 + BOX_WIDTH, BOX_WIDTH // 2, BOX_HEIGHT // 2
    if x2 > x1:
        return f"M{right} {y1 + half} C{right + 20} {y1 + half} {x2 - 20} {y2 + half} {x2} {y2 + half}"
    if x2 == x1 and y2 - y1 > _DOWN + _BETWEEN_LINES:
        # Around the boxes between the two.
        return f"M{right} {y1 + half} C{right + 44} {y1 + half} {right + 44} {y2 + half} {right} {y2 + half}"
    lower = y1 + BOX_HEIGHT
    return f"M{x1 + middle} {lower} C{x1 + middle} {lower + 24} {x2 + middle} {y2 - 24} {x2 + middle} {y2}"
