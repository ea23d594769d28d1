from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from booking_mlops.core.model import compiled_forest as module
from booking_mlops.core.model.compiled_forest import CompiledForest, compiled_forest
from booking_mlops.core.model.families.gradient_boosting import GradientBoosting
from booking_mlops.core.model.families.random_forest import RandomForest

TAKES_MISSING_VALUES = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 4)


def rows_of(rng: np.random.Generator, count: int, numbers: int, texts: int, missing: float) -> pd.DataFrame:
    """Return columns of numbers with few and with many different values, and of text."""
    frame = {}
    for number in range(numbers):
        values = rng.normal(size=count) if number % 2 else rng.integers(0, 5, count).astype(float)
        frame[f"number_{number}"] = np.where(rng.random(count) < missing, np.nan, values)
    for number in range(texts):
        frame[f"text_{number}"] = rng.choice([f"Type {kind}" for kind in range(number + 2)], count)
    return pd.DataFrame(frame)


def at_the_thresholds(model: Pipeline, rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return rows whose numbers are where a tree divides, and the float64 next to it on both sides."""
    trees = [tree.tree_ for tree in model.named_steps["model"].estimators_]
    numbers = [name for name in rows if name.startswith("number")]
    encoded = model.named_steps["model"].n_features_in_ - len(numbers)
    result = pd.concat([rows] * 3, ignore_index=True)
    for position, name in enumerate(numbers):
        found = [tree.threshold[(tree.feature == encoded + position)] for tree in trees]
        exact = np.concatenate([*found, rows[name].dropna(), [0.0]])
        near = np.concatenate([np.nextafter(exact, -np.inf), exact, np.nextafter(exact, np.inf), exact.astype("f4")])
        # What divides the missing from all others is infinite, which scikit-learn does not take as an input.
        chosen = rng.choice(near[np.abs(near) <= np.finfo("f4").max], len(result))
        result[name] = np.where(result[name].isna(), np.nan, chosen)
    return result


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 700),
    numbers=st.integers(1, 4),
    texts=st.integers(0, 2),
    trees=st.integers(1, 6),
    depth=st.integers(1, 20),
    leaf=st.integers(1, 9),
    missing=st.sampled_from([0.0, 0.1, 0.6]),
    missing_later=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_the_digits_are_those_of_predict_proba(
    seed: int,
    count: int,
    numbers: int,
    texts: int,
    trees: int,
    depth: int,
    leaf: int,
    missing: float,
    missing_later: float,
) -> None:
    rng = np.random.default_rng(seed)
    if not TAKES_MISSING_VALUES:
        missing = missing_later = 0.0
    inputs = rows_of(rng, count, numbers, texts, missing)
    labels = rng.integers(0, 2, count)
    labels[:2] = 0, 1
    family = RandomForest(n_estimators=trees, max_depth=depth, min_samples_leaf=leaf, max_features=None, seed=seed % 97)
    model = family.fit(inputs, labels)
    compiled = compiled_forest(model)
    assert compiled is not None
    others = at_the_thresholds(model, rows_of(rng, count, numbers, texts, missing_later), rng)
    for rows in (inputs, others, others[:1]):
        np.testing.assert_array_equal(compiled.probability(rows), model.predict_proba(rows)[:, 1])


def test_text_that_is_unknown_or_missing_has_none_of_the_known_values(forest: Pipeline) -> None:
    compiled = compiled_forest(forest)
    assert compiled is not None
    rows = rows_of(np.random.default_rng(8), 6, 2, 2, missing=0.0)
    expected = forest.predict_proba(rows.assign(text_1="Type 99"))[:, 1]
    np.testing.assert_array_equal(compiled.probability(rows.assign(text_1="Type 99")), expected)
    np.testing.assert_array_equal(compiled.probability(rows.assign(text_1=None)), expected)
    as_categories = rows.assign(text_1=pd.Categorical([None] * 6, categories=["Type 1"]))
    np.testing.assert_array_equal(compiled.probability(as_categories), expected)
    assert (compiled.probability(rows.assign(text_1="Type 1")) != expected).any()


def test_whole_numbers_and_categories_are_scored_like_their_values(forest: Pipeline) -> None:
    compiled = compiled_forest(forest)
    assert compiled is not None
    rows = rows_of(np.random.default_rng(9), 500, 2, 2, missing=0.0)
    raw = rows.assign(number_0=rows["number_0"].astype(int), text_0=rows["text_0"].astype("category"))
    np.testing.assert_array_equal(compiled.probability(raw), forest.predict_proba(rows)[:, 1])


def test_it_is_sent_to_a_worker_as_less_than_the_pipeline(forest: Pipeline) -> None:
    compiled = compiled_forest(forest)
    sent = pickle.dumps(compiled, protocol=pickle.HIGHEST_PROTOCOL)
    assert len(sent) < len(pickle.dumps(forest, protocol=pickle.HIGHEST_PROTOCOL)) / 3
    again = pickle.loads(sent)
    assert isinstance(again, CompiledForest)
    rows = rows_of(np.random.default_rng(10), 50, 2, 2, missing=0.0)
    np.testing.assert_array_equal(again.probability(rows), forest.predict_proba(rows)[:, 1])


def test_what_it_can_not_hold_stays_with_scikit_learn(forest: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = rows_of(np.random.default_rng(11), 200, 2, 1, missing=0.0)
    labels = (inputs["number_1"] > 0).to_numpy(dtype=int)
    assert compiled_forest(GradientBoosting().fit(inputs, labels)) is None
    many = inputs.loc[np.arange(1_100) % 200].assign(text_0=[f"Agent {number}" for number in range(1_100)])
    small = RandomForest(n_estimators=1, max_depth=2)
    assert compiled_forest(small.fit(many, np.arange(1_100) % 2)) is None
    assert compiled_forest(small.fit(many.head(1_000), np.arange(1_000) % 2)) is not None
    monkeypatch.setattr(module, "_MOST_NODES", 20)
    assert compiled_forest(forest) is None


@pytest.fixture(scope="module")
def forest() -> Pipeline:
    inputs = rows_of(np.random.default_rng(7), 2_000, 2, 2, missing=0.0)
    return RandomForest(n_estimators=20).fit(inputs, np.random.default_rng(6).integers(0, 2, 2_000))
