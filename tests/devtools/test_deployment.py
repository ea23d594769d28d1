from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from booking_mlops.errors import ConfigError
from devtools.deployment import check
from devtools.deployment_file import read_deployment
from tests.conftest import ROOT, Cli
from tests.unit.test_cli import TASKS

FILE = read_deployment(ROOT / "deployment.yml")
PROJECT = json.loads((ROOT / ".dbx" / "project.json").read_text(encoding="utf-8"))


def problems(change: Callable[[Any], object] | None = None, **more: Any) -> list[str]:
    """What is found in the project's own file after a change."""
    tree = copy.deepcopy(FILE)
    if change:
        change(tree)
    given: dict[str, Any] = {
        "entry_points": TASKS,
        "environments": ["dev", "staging", "prod"],
        "project": PROJECT,
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
    assert "28 workflows in 3 environments are sound" in outcome.out


def cluster(tree: Any) -> Any:
    return workflow(tree)["job_clusters"][0]["new_cluster"]


def drop(mapping: Any, key: str) -> object:
    return mapping.pop(key)


def serverless(tree: Any, key: str = "booking-mlops", **spec: str) -> Any:
    """The pipeline's job in prod, moved to serverless compute."""
    found = workflow(tree)
    del found["job_clusters"]
    found["environments"] = [{"environment_key": key, "spec": spec or {"environment_version": "4"}}]
    for task in found["tasks"]:
        del task["job_cluster_key"]
        task["environment_key"] = "booking-mlops"
    return found


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
    (
        lambda t: workflow(t, "prod", "setup-data")["schedule"].update(quartz_cron_expression="0 1 * * *"),
        "Invalid quartz_cron_expression: 0 1 * * *",
    ),
    (lambda t: workflow(t, "prod", "setup-data")["schedule"].update(timezone_id="Mars"), "Invalid timezone_id: Mars"),
    (lambda t: cluster(t).update(data_security_mode="USER_ISOLATION"), "is not offered for the ML runtime 18.x"),
    (lambda t: drop(cluster(t), "data_security_mode"), "job cluster booking-mlops: no data_security_mode"),
    (lambda t: cluster(t).update(spark_version="latest"), "spark_version latest names no runtime"),
    (lambda t: workflow(t)["tasks"][0].update(environment_key="x"), "has job_cluster_key, environment_key"),
    (lambda t: serverless(t, key="other"), "environment_key booking-mlops is not among environments"),
    (lambda t: serverless(t, environment_version="3"), "environment_version 3 is older than the wheel is known to run"),
    (
        lambda t: serverless(t, client="2"),
        'environment booking-mlops: environment_version is missing; use "4" or newer',
    ),
    (lambda t: serverless(t)["tasks"][0].update(libraries=[{"whl": "x"}]), "a task has no libraries"),
    (
        lambda t: (drop(task := workflow(t)["tasks"][0], "job_cluster_key"), task.update(existing_cluster_id="mine")),
        "existing_cluster_id mine is neither cluster://NAME nor an id",
    ),
    (lambda t: t.update(environments=[]), "no environments"),
]


@pytest.mark.parametrize(("change", "expected"), CASES, ids=[expected[:45] for _, expected in CASES])
def test_what_dbx_lets_pass_is_found(change: Callable[[Any], object], expected: str) -> None:
    assert any(expected in problem for problem in problems(change)), problems(change)


def test_a_wheel_on_dbfs_root_needs_an_old_runtime_or_the_clusters_setting() -> None:
    project = copy.deepcopy(PROJECT)
    project["environments"]["prod"]["properties"]["artifact_location"] = "dbfs:/Shared/dbx"
    found = problems(project=project)
    assert len(found) == len(FILE["environments"]["prod"]["workflows"])
    assert "installs no library from DBFS root, where .dbx/project.json has the wheel uploaded" in found[0]
    allowed = {"spark.databricks.driver.dbfsLibraryInstallationAllowed": "true"}

    def everywhere(**settings: Any) -> list[str]:
        def change(tree: Any) -> None:
            for one in tree["environments"]["prod"]["workflows"]:
                one["job_clusters"][0]["new_cluster"].update(settings)

        return problems(change, project=project)

    assert everywhere(spark_conf=allowed) == []
    assert everywhere(spark_version="14.3.x-cpu-ml-scala2.12") == []


def test_the_command_reports_every_problem_and_fails(tmp_path: Path, booking_mlops: Cli) -> None:
    for name in ("conf", ".dbx"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    text = (ROOT / "deployment.yml").read_text(encoding="utf-8")
    text = text.replace(
        "entry_point: {{ entry_point }}", 'entry_point: {{ entry_point.replace("model-train", "train") }}'
    )
    text = text.replace("- name: {{ name }}", '- name: {{ "x" if name == "dev-setup-data" else name }}')
    (tmp_path / "deployment.yml").write_text(text, encoding="utf-8")
    outcome = booking_mlops("deployment", "check", "--file", tmp_path / "deployment.yml")
    assert outcome.code == 1
    assert "the wheel has no entry point train" in outcome.err
    assert "does not begin with 'dev-'" in outcome.err


OFFERED = ["dedicated", "standard", "existing", "serverless"]


@pytest.mark.parametrize("compute", OFFERED)
def test_every_compute_is_one_word_away_and_sound(tmp_path: Path, booking_mlops: Cli, compute: str) -> None:
    path = with_compute(tmp_path, compute)
    jobs = [w for e in read_deployment(path)["environments"].values() for w in e["workflows"]]
    tasks = [task for job in jobs for task in job["tasks"]]
    keys = {"existing": "existing_cluster_id", "serverless": "environment_key"}
    key, value = keys.get(compute, "job_cluster_key"), "cluster://booking-mlops"
    assert {task[key] for task in tasks} == {value if compute == "existing" else "booking-mlops"}
    assert {name for task in tasks for name in ("existing_cluster_id", "job_cluster_key", "environment_key")
            if name in task} == {key}  # fmt: skip
    clusters = [job["job_clusters"][0]["new_cluster"] for job in jobs if "job_clusters" in job]
    modes = {
        "dedicated": {("18.x-cpu-ml-scala2.13", "SINGLE_USER")},
        "standard": {("18.x-scala2.13", "USER_ISOLATION")},
    }
    assert {(one["spark_version"], one["data_security_mode"]) for one in clusters} == modes.get(compute, set())
    assert all(("environments" in job) == (compute == "serverless") for job in jobs)
    for name in ("conf", ".dbx"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    outcome = booking_mlops("deployment", "check", "--file", path, "--conf-dir", tmp_path / "conf")
    assert outcome.code == 0, outcome.err
    assert ("dbx can't" in outcome.out) == (compute == "serverless")
    bundle = booking_mlops("deployment", "to-bundle", "--file", path, "--out", tmp_path / "bundle")
    assert bundle.code == 0, bundle.err
    if compute == "serverless":
        planned = booking_mlops("deployment", "plan", "--env", "prod", "--file", path)
        assert (planned.code, "dbx can't deploy to serverless compute" in planned.err) == (1, True)


def with_compute(folder: Path, compute: str) -> Path:
    """The project's file with its one line about compute changed to a value that its comment offers."""
    text = (ROOT / "deployment.yml").read_text(encoding="utf-8")
    assert re.findall(r"^#   (\w+)$", text, re.MULTILINE) == OFFERED
    line = '{% set compute = "dedicated" %}'
    assert text.count(line) == 1
    path = folder / "deployment.yml"
    path.write_text(text.replace(line, line.replace("dedicated", compute)), encoding="utf-8")
    return path


TASKS_OF = {
    "booking-pipeline": ["setup-data", "feature-table-creation", "model-train", "model-inference-batch", "outlook"],
    "integration-test": [
        "setup-data",
        "feature-table-creation",
        "model-train",
        "model-retrain",
        "model-inference-batch",
        "outlook",
        "integration-test",
    ],
}
SCHEDULES = {
    "prod-setup-data": "0 0 1 * * ?",
    "prod-feature-table-creation": "0 0 2 * * ?",
    "prod-model-train": "0 0 3 ? * SUN",
    "prod-model-monitor": "0 30 3 * * ?",
    "prod-model-inference-batch": "0 0 4 * * ?",
    "prod-outlook": "0 0 5 * * ?",
}
STANDARD_JOBS = [
    *("setup-data", "feature-table-creation", "model-train", "model-inference-batch", "outlook"),
    *("model-monitor", "model-rollback", "model-approve", "booking-pipeline"),
]


def jobs_of(tree: Any, environment: str) -> dict[str, Any]:
    return {workflow["name"]: workflow for workflow in tree["environments"][environment]["workflows"]}


def test_every_environment_has_the_standard_jobs_and_staging_the_integration_test() -> None:
    assert list(FILE) == ["build", "environments"]
    assert list(FILE["environments"]) == ["dev", "staging", "prod"]
    for environment in FILE["environments"]:
        more = ["integration-test"] if environment == "staging" else []
        assert list(jobs_of(FILE, environment)) == [f"{environment}-{job}" for job in (*STANDARD_JOBS, *more)]


def test_a_job_runs_its_tasks_in_order_each_with_the_files_of_its_environment() -> None:
    for environment in FILE["environments"]:
        for name, job in jobs_of(FILE, environment).items():
            short = name.removeprefix(f"{environment}-")
            keys = [task["task_key"] for task in job["tasks"]]
            assert keys == TASKS_OF.get(short, [short])
            waits = [[d["task_key"] for d in task.get("depends_on", [])] for task in job["tasks"]]
            assert waits == [[], *([key] for key in keys[:-1])]
            for task in job["tasks"]:
                again = task["task_key"] == "model-retrain"
                entry_point = "model-train" if again else task["task_key"]
                assert task["python_wheel_task"] == {
                    "package_name": "booking_mlops",
                    "entry_point": entry_point,
                    "parameters": [
                        *("--conf-file", f"file:fuse://conf/tasks/{entry_point.replace('-', '_')}.yml"),
                        *("--env-file", f"file:fuse://conf/envs/{environment}.yml"),
                        *(("--set", "model.seed=43") if again else ()),
                    ],
                }


def test_prod_runs_on_schedule_as_a_service_principal_and_tries_again() -> None:
    jobs = jobs_of(FILE, "prod")
    assert {
        name: job["schedule"]["quartz_cron_expression"] for name, job in jobs.items() if "schedule" in job
    } == SCHEDULES
    for name, job in jobs.items():
        assert job["run_as"] == {"service_principal_name": "service-principal://booking-mlops-prod"}
        assert job["access_control_list"][0]["permission_level"] == "IS_OWNER"
        assert job["email_notifications"]["on_failure"]
        # An alarm or a refusal is the same the second time.
        tries = 0 if name in ("prod-model-monitor", "prod-model-rollback", "prod-model-approve") else 2
        assert {task["max_retries"] for task in job["tasks"]} == {tries}
        if "schedule" in job:
            assert job["schedule"]["timezone_id"] == "UTC"
            assert job["schedule"]["pause_status"] == "UNPAUSED"


def test_nothing_else_runs_on_its_own_or_tries_again() -> None:
    for environment in ("dev", "staging"):
        for job in jobs_of(FILE, environment).values():
            assert set(job) == {"name", "max_concurrent_runs", "timeout_seconds", "job_clusters", "tasks"}
            assert {task["max_retries"] for task in job["tasks"]} == {0}


def changed_file(folder: Path, before: str, after: str) -> Path:
    text = (ROOT / "deployment.yml").read_text(encoding="utf-8")
    assert text.count(before) == 1
    path = folder / "deployment.yml"
    path.write_text(text.replace(before, after), encoding="utf-8")
    return path


def test_a_new_environment_is_one_word_and_a_new_task_one_row(tmp_path: Path) -> None:
    more = read_deployment(changed_file(tmp_path, '["dev", ', '["qa", "dev", '))
    renamed = copy.deepcopy(jobs_of(more, "qa"))
    assert list(renamed) == [f"qa-{job}" for job in STANDARD_JOBS]
    assert not any("schedule" in job or "run_as" in job for job in renamed.values())
    assert {name: value for name, value in more["environments"].items() if name != "qa"} == FILE["environments"]
    row = '("model-rollback", "", 0),'
    more = read_deployment(changed_file(tmp_path, row, f'{row}\n  ("night-audit", "0 0 5 * * ?", 2),'))
    for environment in FILE["environments"]:
        assert set(jobs_of(more, environment)) - set(jobs_of(FILE, environment)) == {f"{environment}-night-audit"}
    (task,) = jobs_of(more, "prod")["prod-night-audit"]["tasks"]
    assert task["python_wheel_task"]["entry_point"] == "night-audit"
    assert "file:fuse://conf/tasks/night_audit.yml" in task["python_wheel_task"]["parameters"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("environment in environments", "environment in environmens", "line {}: 'environmens' is undefined"),
        ("{% endmacro %}", "{% endmacr %}", "line {}: Encountered unknown tag 'endmacr'."),
        (
            "max_concurrent_runs: 1",
            "max_concurrent_runs: 1: 2",
            "as rendered (max_concurrent_runs: 1: 2): not valid YAML",
        ),
        ('"staging", "prod"]', '"staging", "staging"]', "as rendered (staging:): the key 'staging' is there twice"),
        ('("model-rollback", "", 0)', '("model-rollback", "", 0, 1)', ": too many values to unpack"),
        ("environments:\n", "- environments:\n", "not valid YAML"),
    ],
)
def test_a_mistake_in_the_template_is_one_line_with_file_and_line(
    tmp_path: Path, before: str, after: str, expected: str
) -> None:
    path = changed_file(tmp_path, before, after)
    lines = path.read_text(encoding="utf-8").splitlines()
    place = [number for number, line in enumerate(lines, 1) if after.strip() in line]
    with pytest.raises(ConfigError) as error:
        read_deployment(path)
    assert str(error.value).startswith(f"{path}, line ")
    assert expected.format(*place) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yml: no such file"):
        read_deployment(tmp_path / "none.yml")


def test_a_project_that_dbx_would_not_render_is_reported(tmp_path: Path, booking_mlops: Cli) -> None:
    for name in ("conf", ".dbx"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(ROOT / "deployment.yml", tmp_path)
    project = tmp_path / ".dbx" / "project.json"
    project.write_text(project.read_text().replace('_support": true', '_support": false', 1), encoding="utf-8")
    outcome = booking_mlops("deployment", "check", "--file", tmp_path / "deployment.yml")
    assert outcome.code == 1
    assert "set inplace_jinja_support to true" in outcome.err


def test_grants_name_exactly_one_principal(booking_mlops: Cli) -> None:
    for grant in ("{permission_level: CAN_READ}", "{permission_level: CAN_READ, user_name: a, group_name: b}"):
        outcome = booking_mlops("config", "show", "model-train", "--set", f"env.permissions.model=[{grant}]")
        assert outcome.code == 1
        assert "a grant names one of" in outcome.err
    outcome = booking_mlops(
        "config", "show", "model-train", "--set", "env.permissions.model=[{permission_level: ALL, group_name: b}]"
    )
    assert outcome.code == 1
