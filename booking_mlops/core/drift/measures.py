"""Has the world moved away from what the champion was trained on? Measures of drift, and what they amount to."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.bookings.quality import Ranges

Level = Literal["ok", "warn", "alarm", "too few"]
_SEVERITY: Mapping[str, int] = {"too few": 0, "ok": 1, "warn": 2, "alarm": 3}
# A feature with no more values than this is compared value by value.
_FEW_VALUES = 12
_YEARS_BACK = 5


@dataclass(frozen=True)
class Levels:
    """From which value on a measure is a warning, and from which an alarm."""

    warn: float
    alarm: float

    def of(self, value: float) -> Level:
        """The level of a value; NaN, which can't be judged, is 'too few'."""
        if math.isnan(value):
            return "too few"
        return "alarm" if value >= self.alarm else "warn" if value >= self.warn else "ok"


@dataclass(frozen=True)
class Finding:
    """One measured thing: `check` groups findings, `subject` is the feature, week or table it is about."""

    check: str
    subject: str
    statistic: str
    value: float
    level: Level
    levels: Levels
    rows: int
    reference_rows: int = 0
    detail: str = ""


def worst(findings: Sequence[Finding]) -> Level:
    """The most severe level of all; 'too few' when nothing could be judged."""
    return max((finding.level for finding in findings), key=lambda level: _SEVERITY[level], default="too few")


def psi(reference: pd.Series, current: pd.Series, bins: int = 10) -> float:
    """Population stability index: sum over bins of (p - q) ln(p / q); 0 when the two are distributed alike.

    Numbers are cut at the reference's quantiles, text and numbers of few values are compared value by
    value; a value only one side has counts as half a row on the other. Siddiqi, Credit Risk
    Scorecards, 2006. With n and m rows, chance alone gives about (bins - 1)(1/n + 1/m).
    """
    if len(reference) == 0 or len(current) == 0:
        return float("nan")
    if pd.api.types.is_numeric_dtype(reference) and reference.nunique() > _FEW_VALUES:
        edges = np.unique(np.quantile(reference.to_numpy(float), np.linspace(0, 1, bins + 1)[1:-1]))
        both = [np.digitize(side.to_numpy(float), edges) for side in (reference, current)]
    else:
        codes = pd.factorize(pd.concat([reference, current], ignore_index=True))[0]
        both = [codes[: len(reference)], codes[len(reference) :]]
    count = max(int(side.max()) for side in both) + 1
    p, q = (np.maximum(np.bincount(side, minlength=count), 0.5) / len(side) for side in both)
    return float(np.sum((p - q) * np.log(p / q)))


def domain_auc(
    reference: pd.DataFrame, current: pd.DataFrame, names: Sequence[str], key: str, *, seed: int, folds: int = 4
) -> float:
    """How well a classifier tells the two apart: .5 not at all, 1 perfectly; sees what single features hide.

    Cross-validated with equal rows in one fold, so that it can't recognise what it has learned by
    heart. Rabanser, Günnemann, Lipton, "Failing Loudly", NeurIPS 2019.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    both = pd.concat([reference, current], ignore_index=True)
    side = np.repeat([0, 1], [len(reference), len(current)])
    if both[key].nunique() < folds or min(len(reference), len(current)) < folds:
        return float("nan")
    text = [name for name in names if not pd.api.types.is_numeric_dtype(both[name])]
    columns = ColumnTransformer(
        [("text", OneHotEncoder(handle_unknown="ignore", sparse_output=False), text)], remainder="passthrough"
    )
    forest = RandomForestClassifier(
        n_estimators=50, max_depth=8, min_samples_leaf=5, class_weight="balanced", random_state=seed, n_jobs=-1
    )
    probabilities = cross_val_predict(
        Pipeline([("columns", columns), ("model", forest)]),
        both[list(names)],
        side,
        groups=both[key],
        cv=GroupKFold(folds),
        method="predict_proba",
    )[:, 1]
    return float(roc_auc_score(side, probabilities))


@dataclass(frozen=True)
class Window:
    """Days `first` to `last`, both included, by arrival."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def sql(self, column: str) -> str:
        """A condition that holds within the window."""
        return f"{column} BETWEEN DATE'{self.first}' AND DATE'{self.last}'"


def newest_window(last: date, days: int) -> Window:
    """The `days` days that end with `last`."""
    return Window(last - timedelta(days=days - 1), last)


def like_seasons(window: Window, margin_days: int) -> list[Window]:
    """The same days, this year and in earlier ones, `margin_days` wider on both sides.

    This year's belong to it: what the champion has learned from already is no news to it, and a
    retraining ends an alarm. Years are 364 days: weekdays stay weekdays.
    """
    margin = timedelta(days=margin_days)
    shifts = [timedelta(days=364 * years) for years in range(_YEARS_BACK + 1)]
    return [Window(window.first - shift - margin, window.last - shift + margin) for shift in shifts]


def within(windows: Sequence[Window], days: pd.Series) -> pd.Series:
    """Whether each day is in any of the windows."""
    known = pd.to_datetime(days)
    return functools.reduce(
        operator.or_,
        (known.between(pd.Timestamp(window.first), pd.Timestamp(window.last)) for window in windows),
        pd.Series(False, index=days.index),
    )


def feature_findings(
    reference: pd.DataFrame, current: pd.DataFrame, names: Sequence[str], levels: Levels, *, bins: int, detail: str
) -> list[Finding]:
    """The PSI of each feature."""
    return [
        Finding("feature drift", name, "PSI", value, levels.of(value), levels, len(current), len(reference), detail)
        for name in names
        for value in [psi(reference[name], current[name], bins)]
    ]


def quality_findings(
    reference: pd.DataFrame, current: pd.DataFrame, names: Sequence[str], ranges: Ranges, levels: Levels
) -> list[Finding]:
    """The share of rows of the newest window whose value is missing, out of range, or was never seen before."""
    findings = []
    for name in names:
        column = current[name]
        bad, why = column.isna(), ["missing"]
        if name in ranges:
            low, high = ranges[name]
            bad, why = bad | ~column.between(low, high), [*why, "out of range"]
        if not pd.api.types.is_numeric_dtype(column):
            bad, why = bad | ~column.isin(set(reference[name])), [*why, "never seen before"]
        share = float(bad.mean()) if len(column) else float("nan")
        findings.append(
            Finding(
                *("data quality", name, "share"), share, levels.of(share), levels, len(current), len(reference),
                " or ".join(why),
            )
        )  # fmt: skip
    return findings


def auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Standard error of a ROC AUC. Hanley & McNeil, Radiology 143 (1982), eq. 1."""
    if positives == 0 or negatives == 0:
        return float("nan")
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return math.sqrt(max(variance, 0.0) / (positives * negatives))


def live_finding(
    subject: str,
    labels: npt.NDArray[Any],
    probabilities: npt.NDArray[Any],
    expected: float,
    levels: Levels,
    min_rows: int,
) -> Finding:
    """ROC AUC on bookings whose label has arrived, and how far it surely is below what was `expected`.

    'Surely' is the one-sided 95 % bound: a small sample that does badly by chance is no alarm.
    """
    from sklearn.metrics import roc_auc_score

    positives = int(np.sum(labels))
    negatives = len(labels) - positives
    if len(labels) < min_rows or not positives or not negatives:
        return Finding("live metrics", subject, "ROC AUC", float("nan"), "too few", levels, len(labels))
    auc = float(roc_auc_score(labels, probabilities))
    error = auc_standard_error(auc, positives, negatives)
    detail = (
        f"± {1.96 * error:.3f}; expected {expected:.3f}; "
        f"{np.mean(probabilities):.1%} predicted, {np.mean(labels):.1%} cancelled"
    )
    level = levels.of(expected - (auc + 1.645 * error))
    return Finding("live metrics", subject, "ROC AUC", auc, level, levels, len(labels), detail=detail)


def capped(findings: Sequence[Finding], level: Level, why: str) -> list[Finding]:
    """The findings, none more severe than `level`; those that were say why."""
    return [
        Finding(**{**vars(finding), "level": level, "detail": f"{finding.detail}; {why}".lstrip("; ")})
        if _SEVERITY[finding.level] > _SEVERITY[level]
        else finding
        for finding in findings
    ]
