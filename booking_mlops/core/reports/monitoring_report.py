"""The monitoring page: what was measured, the levels it was judged by, and plots of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import pandas as pd

from booking_mlops.core.drift.findings import Finding, Level
from booking_mlops.core.reports import plots

_TEMPLATE = Path(__file__).with_name("monitoring_report.html")
_SHOWN_FEATURES = 4
_ORDER = {"alarm": 0, "warn": 1, "ok": 2, "too few": 3}


def draw_plots(
    findings: Sequence[Finding],
    reference: pd.DataFrame,
    current: pd.DataFrame,
    names: Sequence[str],
    weeks: pd.DataFrame,
) -> dict[str, bytes]:
    """Return PNG bytes by name: the drift of every feature, the features that drifted most, the champion by week.

    `weeks` has a row for each week: week, rows, roc_auc (NaN when there were too few rows), predicted, cancelled.
    """
    drift = [one for one in findings if one.check == "feature drift" and one.value == one.value]
    drawn = {}
    if drift:
        drawn["drift"] = plots.drift_levels(
            {one.subject: one.value for one in drift}, drift[0].levels.warn, drift[0].levels.alarm
        )
        moved = sorted(drift, key=lambda one: -one.value)[:_SHOWN_FEATURES]
        drawn |= {
            one.subject: plots.two_distributions(one.subject, reference[one.subject], current[one.subject])
            for one in moved
            if one.subject in names
        }
    if len(weeks):
        drawn["weeks"] = plots.weekly(weeks)
    return drawn


def render(
    *,
    title: str,
    level: Level,
    about: str,
    retrained: str,
    findings: Sequence[Finding],
    plots: Mapping[str, bytes],
    facts: Mapping[str, str],
) -> str:
    """Return the page as HTML; styles and images are in it, so it can be read without a network."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    ordered = sorted(findings, key=lambda one: _ORDER[one.level])
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        level=level,
        about=about,
        retrained=retrained,
        findings=ordered,
        counts={name: sum(one.level == name for one in findings) for name in _ORDER},
        images={name: base64.b64encode(png).decode() for name, png in plots.items()},
        facts=facts,
    )
