"""What a check of drift found, and how severe it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "alarm", "too few"]
_SEVERITY: Mapping[Level, int] = {"too few": 0, "ok": 1, "warn": 2, "alarm": 3}


@dataclass(frozen=True)
class Levels:
    """The limits of a measure: from `warn` on it is a warning, from `alarm` on an alarm."""

    warn: float
    alarm: float

    def of(self, value: float) -> Level:
        """Return the level of a value; NaN, which can't be judged, is 'too few'."""
        if math.isnan(value):
            return "too few"
        return "alarm" if value >= self.alarm else "warn" if value >= self.warn else "ok"


@dataclass(frozen=True)
class Finding:
    """One measured value: `check` groups findings, `subject` is the feature, week or table it is about."""

    check: str
    subject: str
    statistic: str
    value: float
    level: Level
    levels: Levels
    rows: int
    reference_rows: int = 0
    detail: str = ""


def worst_level(findings: Sequence[Finding]) -> Level:
    """Return the most severe level of all; 'too few' when nothing could be judged."""
    return max((finding.level for finding in findings), key=lambda level: _SEVERITY[level], default="too few")


def capped(findings: Sequence[Finding], level: Level, why: str) -> list[Finding]:
    """Return the findings with none more severe than `level`; those that were get `why` added to their detail."""
    return [
        dataclasses.replace(finding, level=level, detail=f"{finding.detail}; {why}".lstrip("; "))
        if _SEVERITY[finding.level] > _SEVERITY[level]
        else finding
        for finding in findings
    ]
