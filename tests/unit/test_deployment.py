from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.config.loader import read_yaml
from devtools.deployment import check
from tests.conftest import ROOT, Cli
from tests.unit.test_cli import TASKS

FILE = read_yaml(ROOT / "deployment.yml")


def problems(change: Callable[[Any], object] | None = None, **more: Any) -> list[str]:
    """What is found in the project's own file after a change."""
    tree = copy.deepcopy(FILE)
    if change:
        change(tree)
    given: dict[str, Any] = {
        "entry_points": TASKS,
        "environments": ["dev", "staging", "prod"],
        "project_environments": ["dev", "staging", "prod"],
        "file_exists": lambda name: (ROOT / name).is_file(),
    }
    return check(tree, **{**given, **more})


def workflow(tree: Any, environment: str = "prod", name: str = "booking-pipeline") -> Any:
    (found,) = [one for one in tree["environments"][environment]["workflows"] if one["name"].endswith(f"-{name}")]
    return found


def test_the_projects_own_file_is_sound_and_dbx_finds_it(booking_mlops: Cli) -> None:
    assert problems() == []
    assert (ROOT / "conf" / "deployment.yml").resolve() == ROOT / "deployment.yml"
    outcome = booking_mlops("deployment", "check")
    assert outcome.code == 0, outcome.err
    assert "22 workflows in 3 environments are sound" in outcome.out


def drop(mapping: Any, key: str) -> object:
    return mapping.pop(key)


CASES: list[tuple[Callable[[Any], object], str]] = [
    (lambda t: t.update(enviroments={}), "unknown key 'enviroments'; did you mean 'environments'?"),
    (lambda t: workflow(t).update(max_concurent_runs=1), "did you mean 'max_concurrent_runs'?"),
    (lambda t: workflow(t)["tasks"][0].update(retries=3), "task setup-data: the task has an unknown key 'retries'"),
    (
        lambda t: workflow(t)["tasks"][1].update(depends_on=[{"task_key": "setup"}]),
        "depends_on setup, which is no task",
    ),
    (lambda t: workflow(t)["tasks"][0].update(job_cluster_key="big"), "job_cluster_key big is not among job_clusters"),
    (lambda t: drop(workflow(t)["tasks"][0], "job_cluster_key"), "has none"),
    (lambda t: workflow(t)["tasks"][0].update(new_cluster={}), "has new_cluster, job_cluster_key"),
    (
        lambda t: workflow(t)["tasks"][2]["python_wheel_task"].update(entry_point="model-trian"),
        "the wheel has no entry point model-trian; did you mean model-train?",
    ),
    (
        lambda t: workflow(t)["tasks"][0]["python_wheel_task"].update(parameters=["file:fuse://conf/none.yml"]),
        "file:fuse://conf/none.yml does not exist",
    ),
    (
        lambda t: workflow(t)["tasks"][0]["python_wheel_task"].update(named_parameters={}),
        "unknown key 'named_parameters'",
    ),
    (lambda t: workflow(t)["tasks"][0].update(depends_on=[{"task_key": "model-train"}]), "tasks wait for each other"),
    (lambda t: workflow(t)["tasks"].append(workflow(t)["tasks"][0]), "two tasks named setup-data"),
    (lambda t: workflow(t).update(tasks=[]), "no tasks"),
    (lambda t: drop(workflow(t)["tasks"][0], "python_wheel_task"), "no python_wheel_task"),
    (lambda t: workflow(t).update(name="booking"), "the name does not begin with 'prod-'"),
    (lambda t: t["environments"]["prod"]["workflows"].append(workflow(t)), "two workflows named prod-booking-pipeline"),
    (lambda t: t["environments"].update(qa={"workflows": []}), "qa: there is no conf/envs/qa.yml"),
    (lambda t: t["environments"].update(qa={"workflows": []}), "qa: .dbx/project.json does not know it"),
    (lambda t: t["environments"].update(qa={"workflows": []}), "qa: no workflows"),
    (lambda t: drop(workflow(t), "run_as"), "run_as names no service principal"),
    (lambda t: drop(workflow(t), "access_control_list"), "needs one IS_OWNER"),
    (lambda t: workflow(t).update(max_concurrent_runs=9), "max_concurrent_runs is not 1"),
    (lambda t: [w.pop("schedule", None) for w in t["environments"]["prod"]["workflows"]], "no workflow has a schedule"),
    (
        lambda t: [w.get("schedule", {}).update(pause_status="PAUSED") for w in t["environments"]["prod"]["workflows"]],
        "no workflow has a schedule",
    ),
    (
        lambda t: workflow(t, "dev").update(schedule={"quartz_cron_expression": "0 0 1 * * ?", "timezone_id": "UTC"}),
        "its schedule is not paused; only prod runs on its own",
    ),
    (lambda t: workflow(t, "prod", "setup-data")["schedule"].update(cron="x"), "schedule has an unknown key 'cron'"),
    (lambda t: t.update(environments=[]), "no environments"),
]


@pytest.mark.parametrize(("change", "expected"), CASES, ids=[expected[:45] for _, expected in CASES])
def test_what_dbx_lets_pass_is_found(change: Callable[[Any], object], expected: str) -> None:
    assert any(expected in problem for problem in problems(change)), problems(change)


def test_the_command_reports_every_problem_and_fails(tmp_path: Path, booking_mlops: Cli) -> None:
    for name in ("conf", ".dbx"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    text = (ROOT / "deployment.yml").read_text(encoding="utf-8")
    text = text.replace("entry_point: model-train", "entry_point: train").replace(
        "dev-setup-data\n        tasks", "x\n        tasks"
    )
    (tmp_path / "deployment.yml").write_text(text, encoding="utf-8")
    outcome = booking_mlops("deployment", "check", "--file", tmp_path / "deployment.yml")
    assert outcome.code == 1
    assert "the wheel has no entry point train" in outcome.err
    assert "does not begin with 'dev-'" in outcome.err


def test_the_other_compute_is_one_line_away() -> None:
    text = (ROOT / "deployment.yml").read_text(encoding="utf-8")
    job, existing = "    job_cluster_key: booking-mlops\n    #", '    # existing_cluster_id: "cluster://booking-mlops"'
    assert text.count(existing) == 1
    switched = text.replace(job, "    #").replace(existing, existing.replace("# ", ""))
    import yaml

    tree = yaml.safe_load(switched)
    tasks = [t for e in tree["environments"].values() for w in e["workflows"] for t in w["tasks"]]
    assert all(task["existing_cluster_id"] == "cluster://booking-mlops" for task in tasks)
    assert not any("job_cluster_key" in task for task in tasks)
    assert problems(lambda old: (old.clear(), old.update(tree))) == []


def test_grants_name_exactly_one_principal(booking_mlops: Cli) -> None:
    for grant in ("{permission_level: CAN_READ}", "{permission_level: CAN_READ, user_name: a, group_name: b}"):
        outcome = booking_mlops("config", "show", "model-train", "--set", f"env.permissions.model=[{grant}]")
        assert outcome.code == 1
        assert "a grant names one of" in outcome.err
    outcome = booking_mlops(
        "config", "show", "model-train", "--set", "env.permissions.model=[{permission_level: ALL, group_name: b}]"
    )
    assert outcome.code == 1
