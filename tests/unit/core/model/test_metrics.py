from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from booking_mlops.core.model.metrics import (
    Costs,
    bootstrap,
    evaluate,
    expected_calibration_error,
    interval,
    mean_cost,
    operating_threshold,
    single_feature_auc,
)


def test_the_bootstrap_is_paired_and_agrees_with_the_metrics_themselves() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    scores = np.clip(np.round(labels * 0.3 + rng.random(300) * 0.7, 1), 0, 1)  # rounded: ties
    draws = bootstrap(labels, {"a": scores, "b": scores, "c": 1 - scores}, samples=150, seed=5)
    np.testing.assert_array_equal(draws["a"]["roc_auc"], draws["b"]["roc_auc"])
    np.testing.assert_allclose(draws["a"]["roc_auc"], 1 - draws["c"]["roc_auc"], atol=1e-12)
    rows = np.random.default_rng(5).integers(0, 300, size=(100, 300))[7]
    expected = evaluate(labels[rows], scores[rows])
    assert expected.roc_auc == pytest.approx(roc_auc_score(labels[rows], scores[rows]))
    for metric, values in draws["a"].items():
        assert values[7] == pytest.approx(getattr(expected, metric)), metric


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    population = rng.normal(size=200_000)
    labels_all = (rng.random(200_000) < 1 / (1 + np.exp(-population))).astype(int)
    truth = roc_auc_score(labels_all, population)
    covered = 0
    for trial in range(60):
        rows = rng.choice(200_000, 400, replace=False)
        draws = bootstrap(labels_all[rows], {"m": population[rows]}, samples=300, seed=trial)["m"]["roc_auc"]
        found = interval(0.0, draws, 0.975)
        covered += found.lower <= truth <= found.upper
    assert covered >= 52


def test_one_class_or_a_score_that_is_no_number_gives_nan() -> None:
    assert math.isnan(evaluate(np.ones(5), np.full(5, 0.5)).roc_auc)
    assert math.isnan(evaluate(np.array([0, 1]), np.array([0.2, np.nan])).log_loss)
    assert math.isnan(evaluate(np.zeros(0), np.zeros(0)).base_rate)
    assert math.isnan(interval(0.1, np.array([np.nan]), 0.9).lower)


def test_metrics_use_probabilities_not_hard_labels() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert evaluate(labels, scores).roc_auc == 1.0  # all are below .5: hard labels would give .5


def test_calibration_error() -> None:
    labels = np.array([0.0] * 9 + [1.0])
    assert expected_calibration_error(labels, np.full(10, 0.1)) == pytest.approx(0.0)
    assert expected_calibration_error(labels, np.full(10, 0.65)) == pytest.approx(0.55)


def test_single_feature_auc_sees_text_and_reversed_numbers() -> None:
    labels = np.array([0, 1] * 50)
    frame = pd.DataFrame({"copy": ["yes" if y else "no" for y in labels], "reverse": -labels, "none": 1})
    found = single_feature_auc(frame, labels)
    assert found == {"copy": 1.0, "reverse": 1.0, "none": 0.5}
    assert math.isnan(single_feature_auc(frame, np.ones(100))["copy"])


def test_the_threshold_is_where_acting_costs_what_not_acting_does() -> None:
    costs = Costs(missed_cancellation=3, needless_intervention=1)
    threshold = operating_threshold(costs)
    assert threshold == 0.25
    rng = np.random.default_rng(2)
    probabilities = rng.random(50_000)
    labels = rng.random(50_000) < probabilities
    best = mean_cost(labels, probabilities, threshold, costs)
    assert all(best < mean_cost(labels, probabilities, other, costs) for other in (0.1, 0.5, 2.0, -1.0))
