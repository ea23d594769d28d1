"""The stand-in for GitHub: its expressions, its order, what it must not let pass; and what the workflows promise."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "devtools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


workflows = script("run_workflows")
job_summary = script("job_summary")
pull_request = script("pull_request")

CONTEXTS = {
    "vars": {"HOST": "h", "EMPTY": ""},
    "github": {"event": {"pull_request": {"number": 12, "head": {"repo": {"full_name": "o/r"}}}}, "repository": "o/r"},
    "inputs": {"action": "launch"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("vars.HOST", "h"),
        ("vars.NONE", None),
        ("vars.EMPTY == ''", True),
        ("vars.NONE == ''", True),
        ("inputs.action == 'launch'", True),
        ("inputs.action != 'launch'", False),
        ("!cancelled()", True),
        ("failure() || always()", True),
        ("vars.HOST != '' && github.event.pull_request.head.repo.full_name == github.repository && 'a' || 'b'", "a"),
        ("vars.EMPTY != '' && 'a' || 'b'", "b"),
        ("(vars.EMPTY || 'it''s') == 'it''s'", True),
        ("github.event.pull_request.number == '12'", True),
    ],
)
def test_expressions(text: str, value: Any) -> None:
    assert workflows.evaluate(text, CONTEXTS) == value


@pytest.mark.parametrize(
    "text", ["secrets.TOKEN", "hashFiles('x')", "a ==", "'a' 'b'", "(vars.HOST", "vars.HOST ~ 'x'"]
)
def test_what_has_no_stand_in_is_an_error_and_not_a_guess(text: str) -> None:
    with pytest.raises(workflows.WorkflowError):
        workflows.evaluate(text, CONTEXTS)


def test_a_step_after_a_failure_runs_only_when_it_says_so() -> None:
    assert workflows.condition(None, CONTEXTS, "success")
    assert not workflows.condition(None, CONTEXTS, "failure")
    assert not workflows.condition("vars.HOST == 'h'", CONTEXTS, "failure")
    assert workflows.condition("${{ always() && vars.HOST == 'h' }}", CONTEXTS, "failure")
    assert workflows.fill("n ${{ github.event.pull_request.number }}.", CONTEXTS) == "n 12."


def test_jobs_run_after_those_they_need() -> None:
    deploy = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))
    assert workflows.in_order(deploy["jobs"]) == ["test", "wheel", "staging", "prod"]


def runner(tmp_path: Path) -> Any:
    return workflows.Runner(tmp_path, tmp_path, [])


def test_a_printed_secret_is_found_and_masked(tmp_path: Path) -> None:
    secrets: set[str] = set()
    environ = {"PATH": "/usr/bin:/bin"}
    assert runner(tmp_path)._step("echo ::add-mask::hush", environ, secrets) == ""
    assert secrets == {"hush"}
    error = runner(tmp_path)._step("echo it is hush", environ, secrets)
    assert error.startswith("printed a secret")
    assert "hush" not in error
    assert runner(tmp_path)._step("exit 3", environ, secrets).startswith("exit code 3")


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.stem)
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
    deployment = yaml.safe_load((tmp_path / "deployment.yml").read_text(encoding="utf-8"))
    names = [workflow["name"] for workflow in deployment["environments"]["staging"]["workflows"]]
    assert "pull-request-12-integration-test" in names
    assert "staging-integration-test" not in names
    with pytest.raises(SystemExit, match="is there 0 times, not once"):
        pull_request.isolate(12)


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
    assert workflows.guide_steps(GUIDE, ["HOST"]) == [
        "source .venv/bin/activate",
        "source .venv/bin/activate\ndbx deploy",
    ]


def test_a_guide_that_forgets_an_export_is_an_error() -> None:
    with pytest.raises(workflows.WorkflowError, match="does not export TOKEN"):
        workflows.guide_steps(GUIDE, ["HOST", "TOKEN"])
