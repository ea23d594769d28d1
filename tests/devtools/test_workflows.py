"""The stand-in for GitHub: what it replaces, its order, what it refuses; and what the workflows promise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from devtools import job_summary, pull_request
from devtools.deployment_file import read_deployment
from devtools.workflows import __main__ as program
from devtools.workflows.runner import ONCE, Runner, Scenario, WorkflowError, fill, in_order, is_run, run_step
from tests.conftest import ROOT

VALUES = {"vars.HOST": "h", "vars.EMPTY": "", "github.event.pull_request.number": "12"}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_a_path_is_replaced_by_its_value() -> None:
    assert fill("n ${{ github.event.pull_request.number }}.", VALUES) == "n 12."
    assert fill("${{vars.HOST}}${{ vars.EMPTY }}", VALUES) == "h"


@pytest.mark.parametrize(
    "text",
    ["secrets.TOKEN", "hashFiles('x')", "vars.HOST == 'h'", "vars.EMPTY || 'a'", "vars.NONE", "'a'", "!cancelled()"],
)
def test_what_has_no_stand_in_is_an_error_and_not_a_guess(text: str) -> None:
    with pytest.raises(WorkflowError, match="has no stand-in"):
        fill(f"${{{{ {text} }}}}", VALUES)
    with pytest.raises(WorkflowError, match="has no stand-in"):
        is_run({"if": text, "run": "x"}, failed=False)


def test_a_step_after_a_failure_runs_only_when_it_says_so() -> None:
    assert is_run({"run": "x"}, failed=False)
    assert not is_run({"run": "x"}, failed=True)
    assert is_run({"if": "${{ always() }}", "run": "x"}, failed=True)
    assert is_run({"if": "${{ !cancelled() }}", "run": "x"}, failed=True)
    with pytest.raises(WorkflowError, match="step: shell has no stand-in"):
        is_run({"run": "x", "shell": "sh"}, failed=False)


def test_jobs_run_after_those_they_need() -> None:
    deploy = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))
    assert in_order(deploy["jobs"]) == ["test", "wheel", "staging", "prod"]
    assert in_order(dict(reversed(deploy["jobs"].items()))) == ["test", "wheel", "staging", "prod"]


def test_a_printed_secret_is_found_and_masked(tmp_path: Path) -> None:
    secrets: set[str] = set()
    environ = {"PATH": "/usr/bin:/bin"}
    assert run_step("echo ::add-mask::hush", environ, tmp_path, secrets) == ""
    assert secrets == {"hush"}
    error = run_step("echo it is hush", environ, tmp_path, secrets)
    assert error.startswith("printed a secret")
    assert "hush" not in error
    assert run_step("exit 3", environ, tmp_path, secrets).startswith("exit code 3")


def runner(tmp_path: Path, done: set[str] | None = None) -> Runner:
    clone = tmp_path / "clone"
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    return Runner(clone, 1, "the-token", done or set())


def steps(*commands: str, **more: Any) -> dict[str, Any]:
    return {"steps": [{"run": command} for command in commands], **more}


def test_a_job_hands_variables_on_and_stops_at_the_first_failure(tmp_path: Path) -> None:
    job = steps('echo A=b=c >> "$GITHUB_ENV"', 'test "$A" = b=c', "echo one; false", "touch reached")
    job["steps"].append({"if": "${{ always() }}", "run": "touch always"})
    with pytest.raises(WorkflowError, match=r"echo one; false\nexit code 1\none"):
        runner(tmp_path).job(job, Scenario(""))
    assert (tmp_path / "clone" / "always").exists()
    assert not (tmp_path / "clone" / "reached").exists()


def test_a_secret_in_the_summary_fails_the_job(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="wrote a secret to the summary"):
        runner(tmp_path).job(
            steps("echo ::add-mask::hush", 'echo hush >> "$GITHUB_STEP_SUMMARY"'),
            Scenario(""),
        )
    with pytest.raises(WorkflowError, match="printed a secret"):
        runner(tmp_path).job(steps("echo the-token"), Scenario(""))


def test_only_a_job_with_credentials_and_permission_can_ask_for_an_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "of-this-machine")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "of-this-machine")
    host = {"DATABRICKS_HOST": "${{ vars.DATABRICKS_HOST }}"}
    none = 'test -z "$DATABRICKS_HOST$DATABRICKS_TOKEN$ACTIONS_ID_TOKEN_REQUEST_URL"'
    runner(tmp_path).job(steps(none, environment="staging", permissions={}, env=host), Scenario(""))
    may = Scenario("", environments=("staging",))
    asks = 'test "$DATABRICKS_HOST" = http://staging.workspace.test; test -z "$DATABRICKS_TOKEN"; '
    runner(tmp_path).job(
        steps(asks + 'test -z "$ACTIONS_ID_TOKEN_REQUEST_URL"', environment="staging", permissions={}, env=host), may
    )
    runner(tmp_path).job(
        steps(
            asks + 'test -n "$ACTIONS_ID_TOKEN_REQUEST_URL"',
            environment="staging",
            permissions={"id-token": "write"},
            env=host,
        ),
        may,
    )


def test_what_ran_on_this_commit_is_not_run_again(tmp_path: Path) -> None:
    runner(tmp_path, set(ONCE)).job(steps(*ONCE), Scenario(""))


def test_a_scenario_must_be_refused_as_it_says(tmp_path: Path) -> None:
    at = runner(tmp_path)
    folder = at.clone / ".github" / "workflows"
    folder.mkdir(parents=True)
    for command, refused, error in (
        ("echo no champion; false", "no champion", ""),
        ("echo something else; false", "no champion", "something else"),
        ("true", "no champion", "must be refused: no champion"),
        ("false", "", "exit code 1"),
    ):
        (folder / "x.yml").write_text(yaml.safe_dump({"jobs": {"one": steps(command)}}), encoding="utf-8")
        if error:
            with pytest.raises(WorkflowError, match=error):
                at.run("x", Scenario("x.yml", refused=refused))
        else:
            at.run("x", Scenario("x.yml", refused=refused))


def test_two_lanes_run_every_scenario_once_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.lanes([program.GUIDE, *program.SCENARIOS]) == [
        [program.GUIDE, "pull-request-of-a-fork"],
        [name for name in program.SCENARIOS if name != "pull-request-of-a-fork"],
    ]
    assert program.lanes(["launch", "deploy"]) == [["deploy", "launch"]]
    assert run_step("echo one; true", {"PATH": "/usr/bin:/bin"}, ROOT, set(), "guide: ") == ""
    assert capsys.readouterr().out.startswith("guide:    echo one; true  (")


def test_an_error_in_one_lane_does_not_stop_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    @contextmanager
    def workspace(root: Path) -> Iterator[tuple[int, str]]:
        yield 1, "the-token"

    def run(at: Runner, name: str, _: Scenario) -> None:
        ran.append(at.label + name)
        if name == "pull-request":
            raise WorkflowError("on purpose")

    monkeypatch.setattr(program, "new_workspace", workspace)
    monkeypatch.setattr(program, "run_guide", lambda at: ran.append(at.label))
    monkeypatch.setattr(Runner, "run", run)
    with pytest.raises(WorkflowError, match=r"^pull-request: on purpose$"):
        program.run_lanes([["guide", "pull-request-of-a-fork"], ["pull-request", "deploy"]], None, [])
    assert sorted(ran) == [
        "guide: ", "pull-request-of-a-fork: pull-request-of-a-fork", "pull-request: pull-request",
    ]  # fmt: skip


def test_every_workflow_that_is_run_here_uses_only_what_has_a_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr("devtools.workflows.runner.run_step", lambda command, *_: ran.append(command) or "")
    monkeypatch.setattr(Runner, "_action", lambda *_: None)
    at = runner(tmp_path)
    (at.clone / ".github").symlink_to(ROOT / ".github")
    for name, scenario in program.SCENARIOS.items():
        before = len(ran)
        if scenario.refused:
            with pytest.raises(WorkflowError, match="must be refused"):
                at.run(name, scenario)
        else:
            at.run(name, scenario)
        assert len(ran) > before
    assert not any("${{" in command for command in ran)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_workflows_ask_for_no_more_than_they_need(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["permissions"] == {}
    for name, job in content["jobs"].items():
        talks_to_a_workspace = "environment" in job
        wanted = {"contents": "read", **({"id-token": "write"} if talks_to_a_workspace else {})}
        assert job["permissions"] == wanted, name
        assert job["timeout-minutes"]
        for step in job["steps"]:
            assert "secrets." not in str(step)
            if "uses" in step:
                assert len(step["uses"].partition("@")[2]) == 40, step
            if str(step.get("uses")).startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


def test_a_tasks_summary_becomes_a_table_and_its_text_no_markup() -> None:
    logs = "12:00:00 INFO x: training\n  model     m version 2\n            more <b>|`x`\n  decision  kept: a tie\n"
    assert job_summary.summary_of(logs) == [("model", "m version 2"), ("", "more <b>|`x`"), ("decision", "kept: a tie")]
    page = job_summary.markdown(
        "job", [("model-train", "SUCCESS", logs, ""), ("score", "FAILED", "", "x\nerror: no <i>")]
    )
    assert "### ✅ model-train" in page
    assert "| decision | kept: a tie |" in page
    assert "| | more &lt;b>\\|'x' |".replace("| |", "|  |") in page
    assert "### ❌ score\n\n> error: no &lt;i>" in page


def test_a_pull_request_gets_names_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/envs").mkdir(parents=True)
    for name in ("conf/envs/staging.yml", "deployment.yml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(pull_request, "ROOT", tmp_path)
    pull_request.isolate(12)
    env = yaml.safe_load((tmp_path / "conf/envs/staging.yml").read_text(encoding="utf-8"))
    assert env["schema"] == "booking_pull_request_12"
    assert env["model_name"] == "staging.booking_pull_request_12.booking_cancellation"
    assert env["experiment"].endswith("/pull-request-12")
    deployment = read_deployment(tmp_path / "deployment.yml")
    names = [workflow["name"] for workflow in deployment["environments"]["staging"]["workflows"]]
    assert "pull-request-12-integration-test" in names
    assert "staging-integration-test" not in names
    with pytest.raises(SystemExit, match="is there 0 times, not once"):
        pull_request.isolate(12)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"DATABRICKS_HOST": ""}, False),
        ({"DATABRICKS_HOST": "h"}, True),
        ({"DATABRICKS_HOST": "h", "HEAD_REPOSITORY": "o/r", "GITHUB_REPOSITORY": "o/r"}, True),
        ({"DATABRICKS_HOST": "", "HEAD_REPOSITORY": "o/r", "GITHUB_REPOSITORY": "o/r"}, False),
        ({"DATABRICKS_HOST": "h", "HEAD_REPOSITORY": "x/r", "GITHUB_REPOSITORY": "o/r"}, False),
        ({"DATABRICKS_HOST": "h", "HEAD_REPOSITORY": "", "GITHUB_REPOSITORY": "o/r"}, False),
        ({"DATABRICKS_HOST": "h", "HEAD_REPOSITORY": "x/r"}, False),
    ],
)
def test_a_fork_has_no_credentials_whatever_its_variables_say(environ: dict[str, str], expected: bool) -> None:
    assert pull_request.has_credentials(environ) is expected


def test_a_fork_gets_no_token_and_removes_nothing(tmp_path: Path) -> None:
    fork = {"DATABRICKS_HOST": "http://nowhere.invalid", "HEAD_REPOSITORY": "x/r", "GITHUB_REPOSITORY": "o/r"}
    handed_on = tmp_path / "GITHUB_ENV"
    handed_on.touch()
    for arguments, said in ((["token"], "no credentials"), (["remove", "12"], "nothing to remove")):
        done = subprocess.run(
            [sys.executable, "-m", "devtools.pull_request", *arguments],
            cwd=ROOT,
            env={**os.environ, **fork, "GITHUB_ENV": str(handed_on)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    assert handed_on.read_text(encoding="utf-8") == ""


def test_with_credentials_a_command_runs_as_it_is() -> None:
    own = {"DATABRICKS_HOST": "h", "HEAD_REPOSITORY": "o/r", "GITHUB_REPOSITORY": "o/r"}
    ask = "import os, sys; print(os.environ['DATABRICKS_HOST'], sys.argv[1:]); sys.exit(7)"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "devtools.pull_request",
            "on-workspace",
            "python",
            "-c",
            ask,
            "--environment",
            "staging",
        ],
        cwd=ROOT,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout == "h ['--environment', 'staging']\n"


GUIDE = """
```
source .venv/bin/activate
```

```sql
CREATE CATALOG dev;
```

```
export HOST=…
dbx deploy
```
"""


def test_a_guide_is_typed_into_one_shell_with_what_it_exports_filled_in() -> None:
    assert program.guide_steps(GUIDE, ["HOST"]) == [
        "source .venv/bin/activate",
        "source .venv/bin/activate\ndbx deploy",
    ]


def test_the_catalogs_of_a_guide_are_those_of_its_sql() -> None:
    assert program.guide_catalogs((ROOT / "docs" / "databricks.md").read_text("utf-8")) == ["dev", "staging", "prod"]
    with pytest.raises(WorkflowError, match="creates no catalog"):
        program.guide_catalogs("CREATE SCHEMA dev.booking;")


def test_a_guide_that_forgets_an_export_is_an_error() -> None:
    with pytest.raises(WorkflowError, match="does not export TOKEN"):
        program.guide_steps(GUIDE, ["HOST", "TOKEN"])
