"""Metrics of a classifier, all of them computed from probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]

_BOOTSTRAP_CHUNK = 100
_ECE_BINS = 10


@dataclass(frozen=True)
class Metrics:
    """The metrics of a set of probabilities; `rows` and `base_rate` describe the rows they were measured on."""

    roc_auc: float
    pr_auc: float
    log_loss: float
    brier: float
    ece: float
    base_rate: float
    rows: int

    def as_dict(self) -> dict[str, float]:
        """Return each metric by its name, for MLflow."""
        return {name: float(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence bounds."""

    value: float
    lower: float
    upper: float


def expected_calibration_error(labels: FloatArray, probabilities: FloatArray, bins: int = _ECE_BINS) -> float:
    """Return the mean gap between probability and observed rate over equal-width bins, weighted by rows.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    index = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    gap = np.abs(np.bincount(index, probabilities, bins) - np.bincount(index, labels, bins))
    return float(gap[count > 0].sum() / max(len(labels), 1))


def evaluate(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any]) -> Metrics:
    """Return all metrics of probabilities (n,) against labels 0/1 (n,).

    With no rows, one class only, or a probability that is not finite, every metric is NaN; the promotion rule then
    keeps the champion.
    """
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    y = np.asarray(labels, dtype=np.float64)
    p = np.asarray(probabilities, dtype=np.float64)
    base_rate = float(y.mean()) if len(y) else float("nan")
    if len(y) == 0 or y.min() == y.max() or not np.isfinite(p).all():
        nan = float("nan")
        return Metrics(nan, nan, nan, nan, nan, base_rate, len(y))
    return Metrics(
        roc_auc=float(roc_auc_score(y, p)),
        pr_auc=float(average_precision_score(y, p)),
        log_loss=float(log_loss(y, np.clip(p, 1e-7, 1 - 1e-7))),
        brier=float(brier_score_loss(y, p)),
        ece=expected_calibration_error(y, p),
        base_rate=base_rate,
        rows=len(y),
    )


class _Resampled:
    """The metrics of one set of scores under many weightings of its rows; the rows are sorted only once.

    ROC AUC counts ties half (Mann-Whitney) and PR AUC is average precision, both as in scikit-learn.
    """

    def __init__(self, labels: FloatArray, scores: FloatArray) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        self._positive = labels[self._order]
        clipped = np.clip(ordered, 1e-7, 1 - 1e-7)
        self._loss = -np.log(np.where(self._positive == 1, clipped, 1 - clipped))
        self._square = (self._positive - ordered) ** 2
        index = np.clip((ordered * _ECE_BINS).astype(int), 0, _ECE_BINS - 1)
        self._gap = np.zeros((len(scores), _ECE_BINS))
        self._gap[np.arange(len(scores)), index] = ordered - self._positive

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Return each metric for each row of `weights` (m, n): arrays (m,)."""
        ordered = weights[:, self._order]
        positive = np.add.reduceat(ordered * self._positive, self._starts, axis=1)
        negative = np.add.reduceat(ordered * (1.0 - self._positive), self._starts, axis=1)
        above, false_above = np.cumsum(positive, axis=1), np.cumsum(negative, axis=1)
        positives, negatives, total = above[:, -1], false_above[:, -1], ordered.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = (negative * (above - positive / 2.0)).sum(axis=1) / (positives * negatives)
            precision = np.nan_to_num(above / (above + false_above))
            pr = (positive * precision).sum(axis=1) / positives
        return {
            "roc_auc": roc,
            "pr_auc": pr,
            "log_loss": ordered @ self._loss / total,
            "brier": ordered @ self._square / total,
            "ece": np.abs(ordered @ self._gap).sum(axis=1) / total,
        }


Draws = dict[str, FloatArray]
"""By metric its value on each bootstrap resample, (samples,)."""


def bootstrap(
    labels: npt.NDArray[Any],
    scores: Mapping[str, npt.NDArray[Any]],
    *,
    samples: int,
    seed: int,
) -> dict[str, Draws]:
    """Return by name of the score every metric on `samples` bootstrap resamples of the rows.

    Paired: entry i of every result is measured on the same resample, so differences cancel the noise the models
    share (Efron & Tibshirani, 1993, ch. 16). Rows must be independent: one for each distinct feature key.
    """
    y = np.asarray(labels, dtype=np.float64)
    measures = {name: _Resampled(y, np.asarray(p, dtype=np.float64)) for name, p in scores.items()}
    rng = np.random.default_rng(seed)
    n = len(y)
    parts: dict[str, list[Draws]] = {name: [] for name in measures}
    for start in range(0, samples, _BOOTSTRAP_CHUNK):
        size = min(_BOOTSTRAP_CHUNK, samples - start)
        draws = rng.integers(0, n, size=(size, n)) + np.arange(size)[:, None] * n
        weights = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        for name, measure in measures.items():
            parts[name].append(measure(weights))
    return {
        name: {metric: np.concatenate([chunk[metric] for chunk in chunks]) for metric in chunks[0]}
        for name, chunks in parts.items()
    }


def interval(value: float, draws: FloatArray, confidence: float) -> Interval:
    """Return the percentile interval of `draws` around `value`.

    `confidence` is that of each bound: .975 gives the usual two-sided 95 %. The bounds are NaN when no draw is finite.
    """
    finite = draws[np.isfinite(draws)]
    if len(finite) == 0:
        return Interval(value, float("nan"), float("nan"))
    return Interval(value, float(np.quantile(finite, 1 - confidence)), float(np.quantile(finite, confidence)))


def intervals(metrics: Metrics, draws: Draws, confidence: float) -> dict[str, Interval]:
    """Return the interval of each bootstrapped metric."""
    return {name: interval(getattr(metrics, name), values, confidence) for name, values in draws.items()}


def single_feature_auc(features: pd.DataFrame, labels: npt.NDArray[Any]) -> dict[str, float]:
    """Return by feature the ROC AUC of that feature alone, in the direction in which it is at least .5.

    A text value counts as the mean label of its rows. NaN when the labels hold one class only.
    """
    from sklearn.metrics import roc_auc_score

    y = pd.Series(np.asarray(labels, dtype=np.float64), index=features.index)
    result: dict[str, float] = {}
    if y.nunique() < 2:
        return dict.fromkeys(map(str, features.columns), float("nan"))
    for name in features.columns:
        column = features[name]
        if not pd.api.types.is_numeric_dtype(column):
            column = y.groupby(column.astype(str)).transform("mean")
        auc = float(roc_auc_score(y, column))
        result[str(name)] = max(auc, 1.0 - auc)
    return result


@dataclass(frozen=True)
class Costs:
    """What a wrong prediction costs, in any one unit: a cancellation nobody acted on, an intervention nobody needed."""

    missed_cancellation: float = 2.0
    needless_intervention: float = 1.0


def operating_threshold(costs: Costs) -> float:
    """Return the probability at which acting costs as much as not acting: the best cut for calibrated probabilities.

    Acting on p costs (1 - p) C_needless, not acting p C_missed; Elkan, "The Foundations of
    Cost-Sensitive Learning", IJCAI 2001, eq. 2.
    """
    return costs.needless_intervention / (costs.needless_intervention + costs.missed_cancellation)


def mean_cost(labels: npt.NDArray[Any], probabilities: npt.NDArray[Any], threshold: float, costs: Costs) -> float:
    """Return the mean cost of a row when one acts on every probability of at least `threshold`."""
    y = np.asarray(labels) == 1
    act = np.asarray(probabilities) >= threshold
    return float(np.mean((y & ~act) * costs.missed_cancellation + (~y & act) * costs.needless_intervention))
