"""Measures of drift: how far the newest bookings are from those the champion was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.bookings.quality import Ranges
from booking_mlops.core.drift.findings import Finding, Levels
from booking_mlops.core.model.metrics import expected_calibration_error

# A numeric feature with no more distinct values than this is compared value by value.
_FEW_VALUES = 12


def psi(reference: pd.Series, current: pd.Series, bins: int = 10) -> float:
    """Return the population stability index: sum over bins of (p - q) ln(p / q); 0 for equal distributions.

    Numbers are cut at the reference's quantiles; text, and numbers of at most 12 distinct values, are compared value
    by value. A value that only one side has counts as half a row on the other. NaN when a side has no rows. With n
    and m rows, chance alone gives about (bins - 1)(1/n + 1/m). Siddiqi, "Credit Risk Scorecards", 2006.
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
    """Return the ROC AUC of a classifier that tells `current` from `reference`: .5 not at all, 1 perfectly.

    It sees drift of features together that none of them shows alone. Cross-validated; rows with an equal `key` are
    in the same fold, so that it can't recognise rows it was trained on. NaN when there are too few rows for the
    folds. Rabanser, Günnemann, Lipton, "Failing Loudly", NeurIPS 2019.
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


def quality_findings(
    reference: pd.DataFrame, current: pd.DataFrame, names: Sequence[str], ranges: Ranges, levels: Levels
) -> list[Finding]:
    """Return a finding for each feature: the share of `current` that is missing, out of range or not in `reference`.

    Only text is looked up in `reference`.
    """
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
    """Return the standard error of a ROC AUC; NaN without both classes.

    Hanley & McNeil, Radiology 143 (1982), eq. 1.
    """
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
    """Return the ROC AUC on bookings whose label has arrived, judged by how far it is below `expected`.

    The level is that of `expected` minus the upper 95 % bound (one-sided) of the measured ROC AUC: a small sample
    that does badly by chance is no alarm. 'too few' below `min_rows`, or with one class only.
    """
    from sklearn.metrics import roc_auc_score

    positives = int(np.sum(labels))
    negatives = len(labels) - positives
    if len(labels) < min_rows or not positives or not negatives:
        return Finding("live metrics", subject, "ROC AUC", float("nan"), "too few", levels, len(labels))
    auc = float(roc_auc_score(labels, probabilities))
    error = auc_standard_error(auc, positives, negatives)
    ece = expected_calibration_error(np.asarray(labels, float), np.asarray(probabilities, float))
    detail = (
        f"± {1.96 * error:.3f}; expected {expected:.3f}; "
        f"{np.sum(probabilities):,.0f} cancellations predicted, {positives:,} came; ECE {ece:.3f}"
    )
    level = levels.of(expected - (auc + 1.645 * error))
    return Finding("live metrics", subject, "ROC AUC", auc, level, levels, len(labels), detail=detail)
