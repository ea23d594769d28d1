"""Plots as PNG bytes. They use no global state of matplotlib, so they can be drawn in any thread."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Scores = Mapping[str, npt.NDArray[Any]]

_COLORS = {"challenger": "#0b6e99", "champion": "#c8553d"}
_GREY = "#9aa0a6"
_FEW_VALUES = 12


def _figure(title: str, x: str, y: str, width: float = 5.2, height: float = 4.2) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png(figure: Any) -> bytes:
    """Return a figure as PNG."""
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()


def roc(labels: npt.NDArray[Any], scores: Scores) -> bytes:
    """Draw the ROC curve of each named score."""
    from sklearn.metrics import roc_curve

    figure, axes = _figure("ROC", "False positive rate", "True positive rate")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="dummy")
    for name, values in scores.items():
        false_positive, true_positive, _ = roc_curve(labels, values)
        axes.plot(false_positive, true_positive, color=_COLORS.get(name), label=name)
    axes.legend(frameon=False, loc="lower right")
    return png(figure)


def precision_recall(labels: npt.NDArray[Any], scores: Scores) -> bytes:
    """Draw precision against recall of each named score."""
    from sklearn.metrics import precision_recall_curve

    figure, axes = _figure("Precision and recall", "Recall", "Precision")
    axes.axhline(float(np.mean(labels)), color=_GREY, linestyle=":", linewidth=1, label="dummy")
    for name, values in scores.items():
        precision, recall, _ = precision_recall_curve(labels, values)
        axes.plot(recall, precision, color=_COLORS.get(name), label=name)
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, loc="lower left")
    return png(figure)


def calibration(labels: npt.NDArray[Any], scores: Scores, bins: int = 10) -> bytes:
    """Draw the observed rate against the mean probability, in equal-width bins."""
    figure, axes = _figure("Calibration", "Predicted probability", "Observed cancellation rate")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="perfect")
    y = np.asarray(labels, dtype=float)
    for name, values in scores.items():
        index = np.clip((np.asarray(values) * bins).astype(int), 0, bins - 1)
        count = np.bincount(index, minlength=bins)
        used = count > 0
        predicted = np.bincount(index, values, bins)[used] / count[used]
        observed = np.bincount(index, y, bins)[used] / count[used]
        axes.plot(predicted, observed, marker="o", markersize=4, color=_COLORS.get(name), label=name)
    axes.legend(frameon=False, loc="upper left")
    return png(figure)


def score_distribution(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], threshold: float) -> bytes:
    """Draw histograms of the probabilities of the bookings that were kept and of those that were cancelled."""
    figure, axes = _figure("Scores", "Predicted probability", "Bookings")
    y, bins = np.asarray(labels), np.linspace(0, 1, 31)
    axes.hist(probabilities[y == 0], bins, color="#9fc5d6", label="kept")
    axes.hist(probabilities[y == 1], bins, color=_COLORS["champion"], alpha=0.75, label="cancelled")
    axes.axvline(threshold, color="#1b2a33", linestyle="--", linewidth=1, label="threshold")
    axes.legend(frameon=False, loc="upper center")
    return png(figure)


def importance(
    values: Mapping[str, float], title: str = "Importance", unit: str = "ROC AUC lost when it is shuffled"
) -> bytes:
    """Draw bars of feature importance, the largest on top."""
    ordered = sorted(values.items(), key=lambda item: item[1])
    figure, axes = _figure(title, unit, "", height=max(4.2, 0.28 * len(ordered) + 1.2))
    axes.barh([name.replace("_", " ") for name, _ in ordered], [value for _, value in ordered], color="#0b6e99")
    return png(figure)


def drift_levels(values: Mapping[str, float], warn: float, alarm: float) -> bytes:
    """Draw bars of drift by feature, the largest on top, with lines at the levels of a warning and of an alarm."""
    ordered = sorted(values.items(), key=lambda item: item[1])
    figure, axes = _figure("Drift of each feature", "PSI", "", height=max(4.2, 0.28 * len(ordered) + 1.2))
    colors = ["#c8553d" if value >= alarm else "#e0a93b" if value >= warn else "#0b6e99" for _, value in ordered]
    axes.barh([name.replace("_", " ") for name, _ in ordered], [value for _, value in ordered], color=colors)
    axes.axvline(warn, color="#e0a93b", linestyle="--", linewidth=1, label="warn")
    axes.axvline(alarm, color="#c8553d", linestyle="--", linewidth=1, label="alarm")
    axes.legend(frameon=False, loc="lower right")
    return png(figure)


def two_distributions(name: str, reference: pd.Series, current: pd.Series) -> bytes:
    """Draw the distribution of one feature in the reference and in the newest bookings, as shares of the bookings."""
    figure, axes = _figure(name.replace("_", " "), "", "Share of bookings")
    sides = {"reference": (reference, "#9fc5d6"), "newest": (current, _COLORS["champion"])}
    if pd.api.types.is_numeric_dtype(reference) and reference.nunique() > _FEW_VALUES:
        both = np.concatenate([reference.to_numpy(float), current.to_numpy(float)])
        bins = np.linspace(np.quantile(both, 0.001), np.quantile(both, 0.999), 25)
        for label, (values, color) in sides.items():
            weights = np.full(len(values), 1.0 / max(len(values), 1))
            filled = "stepfilled" if label == "reference" else "step"
            axes.hist(values.to_numpy(float), bins, weights=weights, histtype=filled, color=color, label=label)
    else:
        known = sorted(set(reference.unique()) | set(current.unique()))
        for offset, (label, (column, color)) in zip((-0.2, 0.2), sides.items(), strict=True):
            shares = column.value_counts(normalize=True).reindex(known, fill_value=0.0)
            axes.bar(np.arange(len(known)) + offset, shares.to_numpy(), 0.4, color=color, label=label)
        axes.set_xticks(np.arange(len(known)), [str(value) for value in known], rotation=20)
    axes.legend(frameon=False, loc="upper right")
    return png(figure)


def weekly(weeks: pd.DataFrame) -> bytes:
    """Draw by week the champion's ROC AUC, where there were enough bookings, and predicted and actual cancellations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title("The champion, week by week", loc="left", fontsize=11)
    names = [f"{week:%d %b}" for week in weeks["week"]]
    points = {"marker": "o", "markersize": 4}
    upper.plot(names, weeks["roc_auc"], color="#0b6e99", **points)
    upper.set_ylabel("ROC AUC")
    if weeks["roc_auc"].isna().all():
        upper.set_yticks([])
        upper.text(0.5, 0.5, "too few bookings in any week", transform=upper.transAxes, ha="center", color="#5d6b74")
    lower.plot(names, weeks["predicted"], color="#0b6e99", label="predicted", **points)
    lower.plot(names, weeks["cancelled"], color=_COLORS["champion"], linestyle="--", label="cancelled", **points)
    lower.set_ylabel("Share cancelled")
    lower.legend(frameon=False, loc="upper left")
    lower.tick_params(axis="x", rotation=30)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)
