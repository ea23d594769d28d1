from __future__ import annotations

import pytest

from booking_mlops.core.drift.findings import Finding, Level, Levels, capped, worst_level

LEVELS = Levels(0.1, 0.25)


@pytest.mark.parametrize(("value", "level"), [(0.09, "ok"), (0.1, "warn"), (0.25, "alarm"), (float("nan"), "too few")])
def test_levels(value: float, level: Level) -> None:
    assert LEVELS.of(value) == level


def finding(level: Level) -> Finding:
    return Finding("feature drift", "x", "PSI", 0.0, level, LEVELS, 1)


def test_the_worst_counts_and_what_was_not_judged_does_not() -> None:
    assert worst_level([finding("ok"), finding("warn"), finding("too few")]) == "warn"
    assert worst_level([finding("too few")]) == worst_level([]) == "too few"
    low, high = capped([finding("ok"), finding("alarm")], "warn", "one week")
    assert (low.level, high.level, high.detail) == ("ok", "warn", "one week")
