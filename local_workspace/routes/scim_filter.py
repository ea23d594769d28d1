"""Read the filters of the SCIM API, such as `displayName eq "ml" and active eq true`, and choose documents by them."""

from __future__ import annotations

import re
from collections.abc import Callable

from local_workspace.errors import invalid
from local_workspace.store import Document

_COMPARISON = re.compile(
    r"""\s*(?P<attribute>[A-Za-z][\w.]*)\s+
    (?:(?P<present>pr)|(?P<operator>eq|ne|co|sw|ew)\s+(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'()]+))\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda found, asked: found == asked,
    "ne": lambda found, asked: found != asked,
    "co": lambda found, asked: asked in found,
    "sw": lambda found, asked: found.startswith(asked),
    "ew": lambda found, asked: found.endswith(asked),
}

Condition = Callable[[Document], bool]


def condition(text: str, attributes: frozenset[str]) -> Condition:
    """Return whether a document satisfies a filter, as a function of the document; an empty filter takes every one.

    Names and values are compared without regard to case; `or` binds less than `and`; there are no parentheses.

    Raises: ApiError 400 for what is no such filter, and for an attribute that is not among `attributes`.
    """
    if not text.strip():
        return lambda _: True
    known = {name.lower(): name for name in attributes}
    alternatives: list[list[Condition]] = [[]]
    position = 0
    while True:
        found = _COMPARISON.match(text, position)
        if found is None:
            raise invalid(f"Given filter operator is not supported. Invalid filter: {text}")
        if found["attribute"].lower() not in known:
            raise invalid(f"Filtering by attribute {found['attribute']} is not supported.")
        alternatives[-1].append(_comparison(known[found["attribute"].lower()], found))
        position = found.end()
        if position == len(text):
            return lambda document: any(all(holds(document) for holds in every) for every in alternatives)
        joined = re.compile(r"(and|or)\b", re.IGNORECASE).match(text, position)
        if joined is None:
            raise invalid(f"Given filter operator is not supported. Invalid filter: {text}")
        if joined[1].lower() == "or":
            alternatives.append([])
        position = joined.end()


def _comparison(attribute: str, found: re.Match[str]) -> Condition:
    if found["present"]:
        return lambda document: bool(document.get(attribute))
    value = found["value"]
    asked = (re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] in "\"'" else value).lower()
    compare = _OPERATORS[found["operator"].lower()]
    return lambda document: compare(str(document.get(attribute, "")).lower(), asked)
