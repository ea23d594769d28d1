"""Run a workflow's steps in a clean clone. What has no stand-in for GitHub here is refused, never guessed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import requests
import yaml

from local_workspace.addresses import client_variables, workspace_url
from local_workspace.project import environments_of

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "example/booking_mlops"
# These give the same answer for the same commit, whichever workflow runs them: once is enough.
ONCE = ("make setup", "make lint", "make check-ci", "make test")
# A run is never cancelled here, so steps with either condition run whatever happened before. A decision that depends on
# more is taken by a script, which runs the same on GitHub and here.
CONDITIONS = ("${{ !cancelled() }}", "${{ always() }}")
JOB_KEYS = ("name", "needs", "runs-on", "timeout-minutes", "environment", "permissions", "env", "strategy", "steps")
STEP_KEYS = ("if", "uses", "with", "run", "env")
ACTIONS = ("actions/checkout", "actions/setup-python", "actions/upload-artifact", "actions/download-artifact")
MASK = "::add-mask::"
# A runner of GitHub has none of these variables unless the workflow sets them.
_NOT_PASSED_ON = (
    *("DATABRICKS_", "MLFLOW_", "GITHUB_", "ACTIONS_", "DBX_", "BOOKING_LAKE", "BOOKING_PRINCIPAL", "PYTEST_"),
    *("COV_", "VIRTUAL_ENV", "PYTHONPATH", "MAKE", "MFLAGS"),
)


class WorkflowError(Exception):
    """A failed step, or a part of a workflow that has no stand-in here."""


@dataclass(frozen=True)
class Scenario:
    """A workflow, what its `${{ … }}` stand for, the environments that have credentials, and the error it must meet."""

    workflow: str
    values: Mapping[str, str] = field(default_factory=dict)
    environments: tuple[str, ...] = ()
    refused: str = ""


def refuse_unknown(what: str, found: Collection[str], known: Collection[str]) -> None:
    """Raise WorkflowError when something is found that is not known."""
    if unknown := sorted(set(found) - set(known)):
        raise WorkflowError(f"{what}: {', '.join(unknown)} has no stand-in; known: {', '.join(sorted(known))}")


def fill(text: Any, values: Mapping[str, str]) -> str:
    """Return the text with each `${{ a.b }}` replaced by values["a.b"]. Raises WorkflowError when there is none."""

    def value(match: re.Match[str]) -> str:
        refuse_unknown("expression", [match[1]], values)
        return values[match[1]]

    return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", value, str(text), flags=re.DOTALL)


def is_run(step: Mapping[str, Any], failed: bool) -> bool:
    """Say whether a step runs, given whether one before it failed. Raises WorkflowError for an unknown key or `if:`."""
    refuse_unknown("step", step, STEP_KEYS)
    refuse_unknown("if", [step["if"]] if "if" in step else [], CONDITIONS)
    return "if" in step or not failed


def in_order(jobs: Mapping[str, Any]) -> list[str]:
    """Return the names of the jobs, each after those it needs."""
    needs = {name: job.get("needs", []) for name, job in jobs.items()}
    return list(TopologicalSorter({k: [v] if isinstance(v, str) else v for k, v in needs.items()}).static_order())


def say(label: str, text: str) -> None:
    """Print the lines of a text, each after the label of the lane that says it: two lanes print at the same time."""
    print("".join(f"{label}{line}\n" for line in text.splitlines()), end="", flush=True)


def run_step(command: str, env: Mapping[str, str], folder: Path, secrets: set[str], label: str = "") -> str:
    """Run a step as GitHub's bash does, add what it masks to `secrets`, and return "" or what went wrong.

    What is returned holds the output with the secrets masked. A step that prints one has gone wrong.
    """
    start = time.monotonic()
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
    process = subprocess.run(
        bash, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", check=False
    )
    say(f"{label}   ", f"{command}  ({time.monotonic() - start:.1f} s)")
    lines = process.stdout.splitlines()
    secrets |= {line.removeprefix(MASK) for line in lines if line.startswith(MASK)}
    output = masked = "\n".join(line for line in lines if not line.startswith(MASK))
    for secret in secrets:
        masked = masked.replace(secret, "***")
    if masked != output:
        return f"printed a secret\n{masked}"
    return f"exit code {process.returncode}\n{masked}" if process.returncode else ""


@dataclass
class Runner:
    """A clean clone, the port and the token of a running local_workspace, and which steps of ONCE have run.

    What it prints begins with `label`.
    """

    clone: Path
    port: int
    token: str
    done: set[str]
    label: str = ""

    def run(self, name: str, scenario: Scenario) -> None:
        """Run every job of the scenario's workflow. Raises WorkflowError when it does not end as it must."""
        jobs = yaml.safe_load((self.clone / ".github" / "workflows" / scenario.workflow).read_text("utf-8"))["jobs"]
        shutil.rmtree(self.clone.parent / "artifacts", ignore_errors=True)
        try:
            for job in in_order(jobs):
                say(self.label, f"== {name} / {job}")
                self.job(jobs[job], scenario)
        except WorkflowError as error:
            if not scenario.refused or scenario.refused not in str(error):
                raise
            say(self.label, f"   refused, as it must be: {scenario.refused}")
        else:
            if scenario.refused:
                raise WorkflowError(f"{name} must be refused: {scenario.refused}")

    def job(self, job: Mapping[str, Any], scenario: Scenario) -> None:
        """Run the steps of a job. Raises WorkflowError for the first that fails, after those that run in any case."""
        refuse_unknown("job", job, JOB_KEYS)
        env = _machine()
        values = {"vars.DATABRICKS_HOST": "", "vars.DATABRICKS_CLIENT_ID": "", "matrix.python": "", **scenario.values}
        environment = fill(job.get("environment", ""), values)
        if environment in scenario.environments:
            client = client_variables(f"http://127.0.0.1:{self.port}", self.token, environment)
            env |= {key: value for key, value in client.items() if not key.startswith("DATABRICKS_")}
            values["vars.DATABRICKS_HOST"] = client["DATABRICKS_HOST"]
            values["vars.DATABRICKS_CLIENT_ID"] = _client_id(environment)
            if job["permissions"].get("id-token") == "write":
                asked = f"github/identity?repository={REPOSITORY}&environment={environment}"
                env["ACTIONS_ID_TOKEN_REQUEST_URL"] = f"http://127.0.0.1:{self.port}/{asked}"
                env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = self.token
        env |= {key: fill(value, values) for key, value in job.get("env", {}).items()}
        for name in ("GITHUB_ENV", "GITHUB_STEP_SUMMARY"):
            env[name] = str(self.clone.parent / name)
            Path(env[name]).write_text("", encoding="utf-8")
        secrets, first_error = {self.token}, ""
        for step in job["steps"]:
            if is_run(step, failed=bool(first_error)):
                error = self._step(step, values, env, secrets)
                first_error = first_error or error
        if first_error:
            raise WorkflowError(first_error)

    def make_catalog(self, workspace: str, name: str) -> None:
        """Create a catalog in a workspace, unless it is there. Raises WorkflowError when the workspace refuses."""
        answer = requests.post(
            f"{workspace_url(workspace)}/api/2.1/unity-catalog/catalogs",
            json={"name": name},
            headers={"Authorization": f"Bearer {self.token}"},
            proxies={"http": f"http://127.0.0.1:{self.port}"},
            timeout=60,
        )
        if not answer.ok and answer.json()["error_code"] != "CATALOG_ALREADY_EXISTS":
            raise WorkflowError(f"catalog {name}: {answer.text}")

    def _step(self, step: Mapping[str, Any], values: Mapping[str, str], env: dict[str, str], secrets: set[str]) -> str:
        """Run a step, add to `env` and `secrets` what it hands on, and return "" or what went wrong."""
        given = {key: fill(value, values) for key, value in (step.get("with") or step.get("env") or {}).items()}
        if "uses" in step:
            self._action(step["uses"].partition("@")[0], given)
            return ""
        command = fill(step["run"], values).strip()
        if command in self.done:
            say(self.label, f"   {command}: has run on this commit")
            return ""
        error = run_step(command, env | given, self.clone, secrets, self.label)
        if command in ONCE and not error:
            self.done.add(command)
        env |= dict(line.split("=", 1) for line in Path(env["GITHUB_ENV"]).read_text("utf-8").splitlines())
        summary = Path(env["GITHUB_STEP_SUMMARY"]).read_text("utf-8")
        if any(secret in summary for secret in secrets):
            raise WorkflowError(f"{command}\nwrote a secret to the summary")
        say(f"{self.label}   | ", summary)
        Path(env["GITHUB_STEP_SUMMARY"]).write_text("", encoding="utf-8")
        return f"{command}\n{error}" if error else ""

    def _action(self, name: str, given: Mapping[str, str]) -> None:
        refuse_unknown("uses", [name], ACTIONS)
        artifacts = self.clone.parent / "artifacts"
        if name == "actions/checkout":
            # The Python environments stay, like the cache of a runner.
            kept = [word for path in (".venv", ".venv-dbx", ".venv-lint", "*.egg-info") for word in ("-e", path)]
            subprocess.run(["git", "checkout", "-q", "--force", "."], cwd=self.clone, check=True)
            subprocess.run(["git", "clean", "-qfdx", *kept], cwd=self.clone, check=True)
        elif name == "actions/upload-artifact":
            artifacts.mkdir()
            if not (found := list(self.clone.glob(given["path"]))):
                raise WorkflowError(f"upload-artifact: there is no {given['path']}")
            for path in found:
                shutil.copy2(path, artifacts / path.name)
        elif name == "actions/download-artifact":
            shutil.copytree(artifacts, self.clone / given["path"])


def _client_id(environment: str) -> str:
    """Return the application id of the environment's service principal: local_workspace counts the environments."""
    return f"00000000-0000-0000-0000-{environments_of(ROOT).index(environment) + 1:012d}"


def _machine() -> dict[str, str]:
    """Return this machine's variables as a new runner would have them: without the Python environment in use."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_PASSED_ON)}
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent
    path = [part for part in kept.get("PATH", "").split(os.pathsep) if part != str(Path(sys.executable).parent)]
    github = {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": REPOSITORY}
    return kept | github | {"PATH": os.pathsep.join([str(base), *path])}
