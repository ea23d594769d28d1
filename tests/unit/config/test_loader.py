from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.config.environment import EnvConfig
from booking_mlops.config.loader import build, load, merged, parse_setting
from booking_mlops.core.model.families.gradient_boosting import GradientBoosting
from booking_mlops.errors import ConfigError
from booking_mlops.tasks.model_train import ModelTrainConfig
from booking_mlops.tasks.setup_data import SetupDataConfig
from tests.conftest import ROOT, Cli

CONFS = ROOT / "tests" / "confs"
ENV = "environment: e\ncatalog: c\nschema: s\nexperiment: x\nmodel_name: m\n"


def files(folder: Path, task: str, env: str = ENV) -> tuple[Path, Path]:
    (folder / "task.yml").write_text(task, encoding="utf-8")
    (folder / "env.yml").write_text(env, encoding="utf-8")
    return folder / "task.yml", folder / "env.yml"


def test_the_command_line_wins_over_the_environment_which_wins_over_the_task(tmp_path: Path) -> None:
    env = ENV + "tasks: {model_train: {model: {n_estimators: 20, max_depth: 5}}}\n"
    task_file, env_file = files(tmp_path, "model: {n_estimators: 10, max_depth: 4, seed: 9}", env)
    config = load(ModelTrainConfig, "model_train", task_file, env_file, ["model.max_depth=6", "env.schema=mine"])
    assert (config.model.seed, config.model.n_estimators, config.model.max_depth) == (9, 20, 6)
    assert config.env.schema == "mine"


@pytest.mark.parametrize("case", sorted(CONFS.glob("valid/*.yml")), ids=lambda path: path.stem)
def test_valid_files_pass_the_command_line(case: Path, booking_mlops: Cli) -> None:
    task = case.stem.split("__")[0]
    outcome = booking_mlops("config", "show", task, "--conf-file", case, "--env", "local")
    assert outcome.code == 0, outcome.err
    assert "environment: local" in outcome.out


@pytest.mark.parametrize("case", sorted(CONFS.glob("invalid/*.yml")), ids=lambda path: path.stem)
def test_invalid_files_give_one_clear_line(case: Path, booking_mlops: Cli) -> None:
    task = case.stem.split("__")[0]
    expected = case.read_text(encoding="utf-8").splitlines()[0].removeprefix("# error: ")
    outcome = booking_mlops("config", "show", task, "--conf-file", case, "--env", "local")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert expected in outcome.err
    assert case.name in outcome.err


def test_every_shipped_file_is_valid(booking_mlops: Cli) -> None:
    outcome = booking_mlops("config", "validate")
    assert outcome.code == 0, outcome.err
    assert "local" in outcome.out


def test_validate_reports_every_problem(tmp_path: Path, booking_mlops: Cli) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "tasks").symlink_to(ROOT / "conf" / "tasks")
    (tmp_path / "envs" / "a.yml").write_text(ENV + "shema: x\n", encoding="utf-8")
    (tmp_path / "envs" / "b.yml").write_text("environment: b\n", encoding="utf-8")
    outcome = booking_mlops("config", "validate", "--conf-dir", tmp_path)
    assert outcome.code == 1
    assert "did you mean 'schema'?" in outcome.err
    assert "'env.catalog' is missing" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "nowhere"], "nowhere.yml: no such file"),
        (["--set", "model.max_dept=3"], "unknown key 'model.max_dept'; did you mean 'max_depth'?"),
        (["--set", "model.max_depth=deep"], "'model.max_depth' must be a whole number, found str ('deep')"),
        (["--set", "env.as_of=soon"], "expected a date such as 2018-10-01, found 'soon'"),
        (["--set", "env.as_of=2018-02-30"], "not valid YAML"),
        (["--set", "env.as_of=2018-02-03 10:00:00"], "found '2018-02-03 10:00:00'"),
        (["--set", "env.as_of=20180203"], "'env.as_of' must be a date such as 2018-10-01 or empty, found int"),
        (["--as-of", "2018-2-3"], "expected a date such as 2018-10-01, found '2018-2-3'"),
        (["--set", "model"], "expected key=value"),
        (["--set", "model=[1"], "not valid YAML"),
        (["--set", "holdout.fraction=1.5"], "is not between 0 and 1"),
        (["--set", "env.schema=a b"], "is not a name of letters, digits and _"),
        (["--set", "env.sampling.fraction=0"], "is not above 0 and up to 1"),
        (["--set", "env.ranges.lead_time=[5, 1]"], "ranges.lead_time: 5 is above 1"),
        (["--set", "env.ranges.lead=[0, 1]"], "ranges: lead is not a numeric column; did you mean 'lead_time'?"),
        (["--set", "max_training_rows=true"], "expected a whole number, found true"),
        (["--set", "costs.missed_cancellation=0"], "costs: must be above 0"),
    ],
)
def test_a_wrong_call_of_a_task_is_one_line_and_exit_code_1(
    arguments: list[str], message: str, booking_mlops: Cli
) -> None:
    outcome = booking_mlops("model-train", *arguments)
    assert outcome.code == 1
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_run_wants_settings_to_name_their_task(booking_mlops: Cli) -> None:
    outcome = booking_mlops("run", "--set", "model.max_depth=3")
    assert outcome.code == 1
    assert "begin with the task" in outcome.err


@pytest.mark.parametrize(
    ("task", "env", "message"),
    [
        ("", ENV + "tasks: {model_trian: {}}", "unknown task 'model_trian'"),
        ("", ENV + "tasks: {model_train: 3}", "'tasks.model_train' must be a mapping"),
        ("", ENV + "tasks: [1]", "'tasks' must hold a mapping"),
        (
            "",
            ENV + "tasks: {model_train: {modl: {}}}",
            "unknown key 'tasks.model_train.modl'; did you mean 'model'?",
        ),
        ("env: {schema: s}", ENV, "a task's file says nothing about an environment"),
        ("model: {seed: 1}\nmodel: {seed: 2}", ENV, "line 2: not valid YAML: key 'model' is there twice"),
        ("- a", ENV, "expected keys and values"),
        ("a: [", ENV, "not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, task: str, env: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(ModelTrainConfig, "model_train", *files(tmp_path, task, env))
    assert message in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    task_file, env_file = files(tmp_path, "")
    task_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        load(ModelTrainConfig, "model_train", task_file, env_file)


def test_whole_numbers_are_accepted_for_fractions_and_lists_for_tuples() -> None:
    env = yaml.safe_load(ENV)
    env["ranges"] = {"lead_time": [0, 9]}
    config = build(SetupDataConfig, {"env": env, "max_rejected_share": 0}, "here")
    assert config.max_rejected_share == 0.0
    assert config.env.all_ranges["lead_time"] == (0.0, 9.0)
    assert config.env.all_ranges["average_price"] == (0.0, 2000.0)
    assert isinstance(config.env, EnvConfig)


def test_spark_settings_are_written_as_yaml_has_them() -> None:
    env = yaml.safe_load(ENV)
    conf = {"a": True, "b": 3, "c": 0.5, "d": "3g"}
    config = build(SetupDataConfig, {"env": {**env, "spark_conf": conf}}, "here")
    assert [(value, type(value)) for value in config.env.spark_conf.values()] == [
        (True, bool), (3, int), (0.5, float), ("3g", str)
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"'env\.spark_conf' must be .*found dict"):
        build(SetupDataConfig, {"env": {**env, "spark_conf": {"a": {"b": 1}}}}, "here")


TREES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@given(MAPPINGS, MAPPINGS)
def test_merging_keeps_what_is_on_top_and_changes_neither(base: dict[str, object], over: dict[str, object]) -> None:
    before = repr(base), repr(over)
    result = merged(base, over)
    assert merged(result, over) == result
    assert set(result) == set(base) | set(over)
    for key, value in over.items():
        if not isinstance(value, dict):
            assert result[key] == value
    assert (repr(base), repr(over)) == before


@given(st.lists(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), min_size=1, max_size=3), st.integers())
def test_settings_are_read_back(parts: list[str], value: int) -> None:
    assert parse_setting(f"{'.'.join(parts)}={value}") == (parts, value)


@pytest.mark.parametrize(
    ("task", "old", "new", "value"),
    [
        ("model-train", "forest.max_depth=6", "model.max_depth", 6),
        ("model-train", "ranges.lead_time=[1, 2]", "env.ranges.lead_time", [1.0, 2.0]),
        ("setup-data", "ranges.lead_time=[1, 2]", "env.ranges.lead_time", [1.0, 2.0]),
        ("setup-data", "make_data=true", "allow_synthetic_data", True),
        ("setup-data", "made_rows=7", "synthetic_rows", 7),
        ("setup-data", "made_seed=8", "synthetic_seed", 8),
    ],
)
def test_a_key_of_an_earlier_release_still_works_and_its_new_name_is_said(
    task: str, old: str, new: str, value: object, booking_mlops: Cli
) -> None:
    outcome = booking_mlops("config", "show", task, "--set", old)
    assert outcome.code == 0, outcome.err
    assert f"'{old.split('=')[0].split('.')[0]}' is called '" in outcome.err
    found = yaml.safe_load(outcome.out)
    for part in new.split("."):
        found = found[part]
    assert found == value


def test_an_old_key_works_in_a_file_and_one_without_effect_is_said(tmp_path: Path, booking_mlops: Cli) -> None:
    (tmp_path / "old.yml").write_text("holdout: {fraction: 0.2}\nranges: {lead_time: [0, 9]}\n", encoding="utf-8")
    outcome = booking_mlops("config", "show", "model-monitor", "--conf-file", tmp_path / "old.yml")
    assert outcome.code == 0, outcome.err
    assert "old.yml: 'holdout' has no effect any more; remove it" in outcome.err
    assert yaml.safe_load(outcome.out)["env"]["ranges"] == {"lead_time": [0.0, 9.0]}


def test_an_old_key_beside_its_new_name_is_refused(booking_mlops: Cli, tmp_path: Path) -> None:
    (tmp_path / "both.yml").write_text("forest: {seed: 1}\nmodel: {seed: 2}\n", encoding="utf-8")
    outcome = booking_mlops("model-train", "--conf-file", tmp_path / "both.yml")
    assert outcome.code == 1
    assert "'forest' is the old name of 'model', and both are given" in outcome.err


def test_the_kind_of_model_decides_which_keys_there_are(tmp_path: Path) -> None:
    task_file, env_file = files(tmp_path, "model: {kind: gradient_boosting, max_iter: 30}")
    config = load(ModelTrainConfig, "model_train", task_file, env_file, ["model.learning_rate=1"])
    assert isinstance(config.model, GradientBoosting)
    assert (config.model.max_iter, config.model.learning_rate) == (30, 1.0)
    with pytest.raises(ConfigError, match=r"unknown key 'model\.n_estimators'"):
        load(ModelTrainConfig, "model_train", task_file, env_file, ["model.n_estimators=3"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.kind=random_forrest", "'random_forrest' is not a model family; did you mean 'random_forest'?"),
        ("model.max_depth=0", "model.max_depth: 0 is not above 0"),
        ("add_features=[lead_time]", "features: a name is listed twice"),
        ("drop_features=[wind]", "drop_features: wind is not among the features"),
    ],
)
def test_a_model_that_cannot_be_is_refused(setting: str, message: str, booking_mlops: Cli) -> None:
    outcome = booking_mlops("model-train", "--set", setting)
    assert outcome.code == 1
    assert message in outcome.err


def test_inputs_are_the_features_with_those_added_and_without_those_dropped() -> None:
    env = yaml.safe_load(ENV)
    config = build(
        ModelTrainConfig, {"env": env, "add_features": ["total_nights"], "drop_features": ["p_c", "p_not_c"]}, "here"
    )
    assert config.inputs[-1] == "total_nights"
    assert len(config.inputs) == 14 + 1 - 2
    assert "p_c" not in config.inputs


def test_permissions_for_all_come_with_those_of_one() -> None:
    everyone = {"group_name": "users", "permission_level": "CAN_READ"}
    owner = {"user_name": "a@b.c", "permission_level": "CAN_MANAGE"}
    env = {**yaml.safe_load(ENV), "permissions": {"all": [everyone], "model": [owner]}}
    permissions = build(EnvConfig, env, "here").permissions
    assert [grant.permission_level for grant in permissions.on_schema] == ["CAN_READ"]
    assert [grant.permission_level for grant in permissions.on_experiment] == ["CAN_READ"]
    assert [grant.permission_level for grant in permissions.on_model] == ["CAN_READ", "CAN_MANAGE"]


@pytest.mark.parametrize(
    ("task", "setting", "path", "expected"),
    [
        ("model-monitor", "drift.levels.warn=0.2", ["drift", "levels"], {"warn": 0.2, "alarm": 0.25}),
        ("model-monitor", "live.levels.alarm=0.2", ["live", "levels"], {"warn": 0.03, "alarm": 0.2}),
        ("model-monitor", "quality.alarm=0.2", ["quality"], {"warn": 0.005, "alarm": 0.2}),
        ("model-train", "costs.missed_cancellation=3", ["costs", "needless_intervention"], 1.0),
        ("model-inference-batch", "drift.window_days=7", ["drift", "max_rows"], 5000),
    ],
)
def test_a_section_given_in_part_keeps_its_other_defaults(
    task: str, setting: str, path: list[str], expected: object, booking_mlops: Cli
) -> None:
    outcome = booking_mlops("config", "show", task, "--set", setting)
    assert outcome.code == 0, outcome.err
    found = yaml.safe_load(outcome.out)
    for part in path:
        found = found[part]
    assert found == expected
