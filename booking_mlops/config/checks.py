"""Checks that configuration classes share; each raises ConfigError."""

from __future__ import annotations

import re
from collections.abc import Iterable

from booking_mlops.core.drift.findings import Levels
from booking_mlops.errors import ConfigError

_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_identifier(name: str, value: str) -> None:
    """Require a name of letters, digits and underscores: it becomes part of SQL text."""
    require(bool(_IDENTIFIER.match(value)), f"{name}: '{value}' is not a name of letters, digits and _")


def require_share(name: str, value: float) -> None:
    """Require a fraction from 0 to 1, both included."""
    require(0.0 <= value <= 1.0, f"{name}: {value:g} is not a share between 0 and 1")


def require_levels(name: str, levels: Levels) -> None:
    """Require 0 < warn <= alarm."""
    require(0 < levels.warn <= levels.alarm, f"{name}: warn must be above 0 and not above alarm")


def require_distinct(name: str, values: Iterable[str]) -> None:
    """Require that no name is listed twice."""
    listed = list(values)
    require(len(set(listed)) == len(listed), f"{name}: a name is listed twice")
