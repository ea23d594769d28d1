"""Metrics on parts of the holdout: an average can hide a segment the model fails on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.model.metrics import evaluate

MIN_ROWS = 50
_LEAD_EDGES = [-1, 7, 30, 90, 151, np.inf]
_LEAD_NAMES = ["0–7 days", "8–30 days", "31–90 days", "91–151 days", "152 days and more"]


@dataclass(frozen=True)
class Slice:
    """A part of the holdout: its rows, the share cancelled, the mean probability, and the ROC AUC within it."""

    group: str
    name: str
    rows: int
    base_rate: float
    mean_probability: float
    roc_auc: float


def slices(rows: pd.DataFrame, labels: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> list[Slice]:
    """Return slices by segment, lead time, month of arrival and repeated guests, where `rows` has those columns.

    ROC AUC is NaN below `MIN_ROWS` rows, or where a slice has one class only.
    """
    groups: dict[str, pd.Series] = {}
    if "market_segment_type" in rows:
        groups["segment"] = rows["market_segment_type"].astype(str)
    if "lead_time" in rows:
        groups["lead time"] = pd.cut(rows["lead_time"], _LEAD_EDGES, labels=_LEAD_NAMES).astype(str)
    if "arrival_date" in rows:
        groups["month of arrival"] = pd.to_datetime(rows["arrival_date"]).dt.strftime("%m")
    if "repeated" in rows:
        groups["repeated guest"] = rows["repeated"].map({0: "no", 1: "yes"})
    found = []
    for group, values in groups.items():
        order = _LEAD_NAMES if group == "lead time" else sorted(values.dropna().unique())
        for name in order:
            mask = (values == name).to_numpy()
            if not mask.any():
                continue
            metrics = evaluate(labels[mask], probabilities[mask])
            auc = metrics.roc_auc if metrics.rows >= MIN_ROWS else float("nan")
            mean = float(np.mean(probabilities[mask]))
            found.append(Slice(group, str(name), metrics.rows, metrics.base_rate, mean, auc))
    return found


def weakest_slice(found: list[Slice]) -> Slice | None:
    """Return the slice with the lowest ROC AUC; None when no slice has one."""
    measured = [one for one in found if not np.isnan(one.roc_auc)]
    return min(measured, key=lambda one: one.roc_auc, default=None)
