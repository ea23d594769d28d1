"""The model report: one HTML page, for a revenue manager and for an engineer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from booking_mlops.core.model.backtest import Backtest
from booking_mlops.core.model.metrics import Interval, Metrics
from booking_mlops.core.model.promotion import Decision
from booking_mlops.core.model.slices import Slice, weakest_slice

_TEMPLATE = Path(__file__).with_name("model_report.html")

METRIC_NAMES = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
}


@dataclass(frozen=True)
class ThresholdEffect:
    """What acting from the operating threshold up means, in counts per hundred bookings."""

    threshold: float
    flagged_of_100: float
    caught_of_100_cancelled: float
    right_of_100_flagged: float


def threshold_effect(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], threshold: float) -> ThresholdEffect:
    """Return how many of a hundred bookings are flagged at the threshold, and how often that is right."""
    cancelled, flagged = np.asarray(labels) == 1, np.asarray(probabilities) >= threshold
    both = float((cancelled & flagged).sum())
    return ThresholdEffect(
        threshold=threshold,
        flagged_of_100=100.0 * float(flagged.mean()),
        caught_of_100_cancelled=100.0 * both / max(float(cancelled.sum()), 1.0),
        right_of_100_flagged=100.0 * both / max(float(flagged.sum()), 1.0),
    )


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows; `facts` maps labels to values (versions, rows, commit), `plots` names to PNG bytes."""

    title: str
    decision: Decision
    metrics: Metrics
    all_rows: Metrics
    intervals: Mapping[str, Interval]
    champion: Metrics | None
    backtest: Backtest
    at_threshold: ThresholdEffect
    slices: Sequence[Slice]
    plots: Mapping[str, bytes]
    facts: Mapping[str, str]


def render(data: ReportData) -> str:
    """Return the page as HTML; styles and images are in it, so it can be read without a network."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    rows = [
        {
            "name": name,
            "challenger": getattr(data.metrics, key),
            "all_rows": getattr(data.all_rows, key),
            "interval": data.intervals.get(key),
            "champion": getattr(data.champion, key) if data.champion else None,
            "as_of": getattr(data.backtest.metrics, key) if data.backtest.metrics else None,
        }
        for key, name in METRIC_NAMES.items()
    ]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        data=data,
        metrics=rows,
        weakest=weakest_slice(list(data.slices)),
        images={name: base64.b64encode(png).decode() for name, png in data.plots.items()},
    )
