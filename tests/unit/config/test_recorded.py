from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from booking_mlops.config.recorded import CONFIG_VERSION, read_recorded, record
from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.model.families.gradient_boosting import GradientBoosting
from booking_mlops.core.model.families.random_forest import RandomForest
from booking_mlops.errors import ConfigError
from booking_mlops.services.training_data import Holdout, TrainingRecipe
from tests.conftest import ROOT

RELEASE_0_1 = (ROOT / "tests" / "confs" / "recorded" / "model_train_0.1.0.json").read_text(encoding="utf-8")


def test_a_configuration_of_the_first_release_is_read() -> None:
    recipe = read_recorded(TrainingRecipe, RELEASE_0_1, "config.json of version 1")
    assert recipe == TrainingRecipe()
    assert recipe.inputs == DEFAULT_FEATURES
    changed = {**json.loads(RELEASE_0_1), "forest": {"n_estimators": 7, "seed": 3}, "holdout": {"salt": 9}}
    recipe = read_recorded(TrainingRecipe, json.dumps(changed), "here")
    assert (recipe.model, recipe.holdout) == (RandomForest(n_estimators=7, seed=3), Holdout(salt=9))


def test_what_is_recorded_is_read_back_as_it_was() -> None:
    recipe = TrainingRecipe(model=GradientBoosting(max_iter=5), add_features=("total_nights",), drop_features=("p_c",))
    text = record(recipe)
    assert json.loads(text)["config_version"] == CONFIG_VERSION
    assert read_recorded(TrainingRecipe, text, "here") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config_version": CONFIG_VERSION + 1}, "recorded by a later release"),
        ({"model": {"kind": "random_forest", "bagging": 3}}, "unknown key 'model.bagging'"),
        ({"model": {"kind": "oracle"}}, "'oracle' is not a model family"),
    ],
)
def test_what_this_release_does_not_know_is_refused(change: dict[str, object], message: str) -> None:
    text = json.dumps({**json.loads(record(TrainingRecipe())), **change})
    with pytest.raises(ConfigError, match=f"config.json of version 4: .*{message}"):
        read_recorded(TrainingRecipe, text, "config.json of version 4")


def test_a_file_that_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="not JSON"):
        read_recorded(TrainingRecipe, "{", "here")


def test_values_of_secret_keys_are_not_recorded() -> None:
    @dataclass(frozen=True)
    class Inner:
        api_key: str = "hush"

    @dataclass(frozen=True)
    class Config:
        token: str = "hush"
        inner: Inner = field(default_factory=Inner)

    assert "hush" not in record(Config())
    assert json.loads(record(Config()))["inner"] == {"api_key": "(hidden)"}
