from __future__ import annotations

import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.model import families
from booking_mlops.core.model.families import DEFAULT_KIND, family_kinds, family_type
from booking_mlops.core.model.families.family import ModelFamily
from booking_mlops.core.model.families.gradient_boosting import GradientBoosting
from booking_mlops.core.model.families.random_forest import RandomForest
from booking_mlops.core.model.scoring import cancellation_probability
from booking_mlops.errors import ConfigError
from tests.unit.core.model.conftest import Rows

SMALL = {"random_forest": {"n_estimators": 30}, "gradient_boosting": {"max_iter": 30}}


def small(kind: str) -> ModelFamily:
    return replace(family_type(kind)(), **SMALL.get(kind, {}))  # type: ignore[call-arg]


@pytest.fixture(params=family_kinds())
def family(request: pytest.FixtureRequest) -> ModelFamily:
    return small(request.param)


def test_the_default_kind_is_the_random_forest() -> None:
    assert family_type(DEFAULT_KIND) is RandomForest
    assert {"random_forest", "gradient_boosting"} <= set(family_kinds())


def test_an_unknown_kind_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="'gradient_bosting' is not a model family; did you mean 'gradient_boosting'"):
        family_type("gradient_bosting")


def test_a_recorded_configuration_names_the_kind(family: ModelFamily) -> None:
    recorded = asdict(family)
    assert family_type(recorded["kind"])(**recorded) == family


def test_the_probabilities_are_those_of_the_pipeline(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    model = family.fit(inputs, labels)
    found = cancellation_probability(model, inputs)
    np.testing.assert_allclose(found, model.predict_proba(inputs)[:, 1], atol=1e-12, rtol=0)
    np.testing.assert_array_equal(found[::-1], cancellation_probability(model, inputs[::-1]))


def test_a_value_never_seen_is_scored(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    model = family.fit(inputs, labels)
    strange = inputs.head(3).assign(room_type="Room_Type 99")
    assert np.isfinite(cancellation_probability(model, strange)).all()
    missing = inputs.head(3).assign(room_type=pd.Categorical([None, "Room_Type 1", "Room_Type 99"]))
    assert np.isfinite(cancellation_probability(model, missing)).all()
    np.testing.assert_array_equal(*cancellation_probability(model, pd.concat([strange, missing])).reshape(2, 3)[:, ::2])


def test_the_number_of_threads_does_not_change_the_model(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    with threadpool_limits(limits=1):
        one = family.fit(inputs, labels)
    with threadpool_limits(limits=4):
        two = family.fit(inputs, labels)
    expected = cancellation_probability(one, inputs)
    for _ in range(5):  # to the last digit: a tie between equal models must be a tie
        assert (expected == cancellation_probability(two, inputs)).all()


def test_the_seed_decides_the_forest(rows: Rows) -> None:
    inputs, labels = rows
    one, two, other = (RandomForest(n_estimators=30, seed=seed).fit(inputs, labels) for seed in (1, 1, 2))
    expected = cancellation_probability(one, inputs)
    for _ in range(5):
        assert (expected == cancellation_probability(two, inputs)).all()
    assert (expected != cancellation_probability(other, inputs)).any()


def test_a_pickled_model_gives_the_same_probabilities(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    model = family.fit(inputs, labels)
    pickled = pickle.dumps(model)
    # MLflow loads a model where this package may not be installed.
    assert b"booking_mlops" not in pickled
    np.testing.assert_array_equal(
        cancellation_probability(model, inputs), cancellation_probability(pickle.loads(pickled), inputs)
    )


def test_longer_lead_time_and_no_request_mean_more_risk(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    model = family.fit(inputs, labels)
    soon, late = (cancellation_probability(model, inputs.assign(lead_time=days)).mean() for days in (2.0, 250.0))
    none, many = (cancellation_probability(model, inputs.assign(special_requests=n)).mean() for n in (0.0, 3.0))
    assert late > soon + 0.2
    assert none > many + 0.1


def test_importance_adds_up_over_every_feature(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    model = family.fit(inputs, labels)
    found = family.importance(model, inputs, labels)
    assert set(found) == set(DEFAULT_FEATURES)
    assert min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(1.0)
    assert max(found, key=found.__getitem__) == "lead_time"
    assert found == family.importance(model, inputs, labels)


def test_numbers_alone_will_do(family: ModelFamily) -> None:
    frame = pd.DataFrame({"a": np.arange(200.0), "b": 1.0})
    labels = np.arange(200) > 99
    assert family.importance(family.fit(frame, labels), frame, labels) == {"a": 1.0, "b": 0.0}


def test_text_of_very_many_values_will_do(family: ModelFamily, rows: Rows) -> None:
    inputs, labels = rows
    many = inputs.assign(room_type=[f"Room_Type {number % 700}" for number in range(len(inputs))])
    assert np.isfinite(cancellation_probability(family.fit(many, labels), many)).all()


def test_without_a_useful_feature_all_have_the_same_importance() -> None:
    frame = pd.DataFrame({"a": np.zeros(100), "b": 1.0})
    labels = np.arange(100) % 2
    boosting = GradientBoosting(max_iter=2)
    assert boosting.importance(boosting.fit(frame, labels), frame, labels) == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("random_forest", {"n_estimators": 0}, "model.n_estimators: 0 is not above 0"),
        ("random_forest", {"max_depth": 0}, "model.max_depth: 0 is not above 0"),
        ("random_forest", {"max_features": 1.5}, "model.max_features: 1.5 is not above 0 and up to 1"),
        ("random_forest", {"seed": -1}, "model.seed: -1 is below 0"),
        ("gradient_boosting", {"learning_rate": 0.0}, "model.learning_rate: 0 is not above 0"),
        ("gradient_boosting", {"max_leaf_nodes": 1}, "model.max_leaf_nodes: 1 is below 2"),
        ("gradient_boosting", {"min_samples_leaf": 0}, "model.min_samples_leaf: 0 is not above 0"),
        ("gradient_boosting", {"l2_regularization": -1.0}, "model.l2_regularization: -1 is below 0"),
        ("gradient_boosting", {"l2_regularization": float("nan")}, "model.l2_regularization: nan is below 0"),
    ],
)
def test_a_hyperparameter_out_of_bounds_is_refused(kind: str, change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(small(kind), **change)  # type: ignore[arg-type]
    assert str(caught.value) == message


LOGISTIC = """
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from booking_mlops.core.model.families.family import ModelFamily, text_and_numeric


@dataclass(frozen=True)
class Logistic(ModelFamily):
    kind: Literal["logistic"] = "logistic"
    C: float = 1.0
    seed: int = 42

    def fit(self, inputs, labels):
        from sklearn.compose import ColumnTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        text, numeric = text_and_numeric(inputs)
        columns = ColumnTransformer(
            [("text", OneHotEncoder(handle_unknown="ignore"), text), ("numeric", StandardScaler(), numeric)]
        )
        return Pipeline([("columns", columns), ("model", LogisticRegression(C=self.C))]).fit(inputs, labels)

    def importance(self, model, inputs, labels):
        return dict.fromkeys(inputs.columns, 1 / inputs.shape[1])
"""


def test_a_family_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    before = set(family_kinds())
    (tmp_path / "logistic.py").write_text(LOGISTIC)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    try:
        assert set(family_kinds()) == before | {"logistic"}
        inputs, labels = rows
        family = family_type("logistic")(C=0.5)  # type: ignore[call-arg]
        assert 0 < cancellation_probability(family.fit(inputs, labels), inputs).min() < 0.5
    finally:
        sys.modules.pop("booking_mlops.core.model.families.logistic", None)
