from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from booking_mlops.config.loader import build, load, merged, parse_setting
from booking_mlops.config.model import EnvConfig, ModelTrainConfig, SetupDataConfig
from booking_mlops.errors import ConfigError
from tests.conftest import ROOT, Cli

CONFS = Path(__file__).parent.parent / "confs"
ENV = "environment: e\ncatalog: c\nschema: s\nexperiment: x\nmodel_name: m\n"


def files(folder: Path, task: str, env: str = ENV) -> tuple[Path, Path]:
    (folder / "task.yml").write_text(task, encoding="utf-8")
    (folder / "env.yml").write_text(env, encoding="utf-8")
    return folder / "task.yml", folder / "env.yml"


def test_the_command_line_wins_over_the_environment_which_wins_over_the_task(tmp_path: Path) -> None:
    env = ENV + "tasks: {model_train: {forest: {n_estimators: 20, max_depth: 5}}}\n"
    task_file, env_file = files(tmp_path, "forest: {n_estimators: 10, max_depth: 4, seed: 9}", env)
    config = load(ModelTrainConfig, "model_train", task_file, env_file, ["forest.max_depth=6", "env.schema=mine"])
    assert (config.forest.seed, config.forest.n_estimators, config.forest.max_depth) == (9, 20, 6)
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
        (["--set", "forest.max_dept=3"], "unknown key 'forest.max_dept'; did you mean 'max_depth'?"),
        (["--set", "forest.max_depth=deep"], "'forest.max_depth' must be a whole number, found str ('deep')"),
        (["--set", "forest"], "expected key=value"),
        (["--set", "forest=[1"], "not valid YAML"),
        (["--set", "holdout.fraction=1.5"], "is not between 0 and 1"),
        (["--set", "env.schema=a b"], "is not a name of letters, digits and _"),
        (["--set", "env.sampling.fraction=0"], "is not above 0 and up to 1"),
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
    outcome = booking_mlops("run", "--set", "forest.max_depth=3")
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
            ENV + "tasks: {model_train: {forst: {}}}",
            "unknown key 'tasks.model_train.forst'; did you mean 'forest'?",
        ),
        ("env: {schema: s}", ENV, "a task's file says nothing about an environment"),
        ("forest: {seed: 1}\nforest: {seed: 2}", ENV, "line 2: not valid YAML: key 'forest' is there twice"),
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
    config = build(SetupDataConfig, {"env": env, "max_rejected_share": 0, "ranges": {"lead_time": [0, 9]}}, "here")
    assert config.max_rejected_share == 0.0
    assert config.ranges["lead_time"] == (0.0, 9.0)
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
