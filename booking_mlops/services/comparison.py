"""Comparing models on the same holdout: what a training does with the champion, and `model compare` with any two."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from booking_mlops.core.model.metrics import Draws, Interval, bootstrap, evaluate, interval, intervals
from booking_mlops.core.model.promotion import Comparison, ComparisonRule
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.io.registry import Registry, Version

log = logging.getLogger(__name__)

Scores = Mapping[str, npt.NDArray[np.float64]]
"""Probabilities of the holdout, (n,), by `challenger` and `champion`."""


def version_scores(registry: Registry, version: Version, holdout: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return a registered version's probabilities for the holdout, (n,); NaN when the holdout lacks one of its inputs.

    Raises: RegistryError when the version can't be loaded.
    """
    schema = registry.input_schema(version)
    missing = [name for name in schema if name not in holdout.columns]
    if missing:
        # The schema gate names the difference to whoever trained.
        log.warning("version %d needs %s, which the training data lacks", version.number, ", ".join(missing))
        return np.full(len(holdout), np.nan)
    return cancellation_probability(registry.load(version), as_model_input(holdout, list(schema)))


def resampled_metrics(labels: npt.NDArray[np.int64], scores: Scores, rule: ComparisonRule) -> dict[str, Draws]:
    """Return every metric of each score over the same resamples of the holdout; NaN when a score is not finite."""
    finite = {name: np.nan_to_num(score, nan=0.5) for name, score in scores.items()}
    draws = bootstrap(labels, finite, samples=rule.bootstrap_samples, seed=rule.bootstrap_seed)
    for name, score in scores.items():
        if not np.isfinite(score).all():
            draws[name] = {metric: np.full_like(values, np.nan) for metric, values in draws[name].items()}
    return draws


def compare_scores(
    labels: npt.NDArray[np.int64], scores: Scores, draws: Mapping[str, Draws], rule: ComparisonRule
) -> Comparison:
    """Compare the scores of challenger and champion on the same holdout and the same resamples of it."""
    challenger, champion = (evaluate(labels, scores[name]) for name in ("challenger", "champion"))
    improvement = interval(
        challenger.roc_auc - champion.roc_auc,
        draws["challenger"]["roc_auc"] - draws["champion"]["roc_auc"],
        rule.confidence,
    )
    return Comparison(challenger, champion, improvement)


def champion_intervals(
    comparison: Comparison | None, draws: Mapping[str, Draws], rule: ComparisonRule
) -> dict[str, Interval]:
    """Return the interval of each of the champion's metrics; none when there was no champion to compare with."""
    if comparison is None:
        return {}
    return intervals(comparison.champion, draws["champion"], rule.confidence)
