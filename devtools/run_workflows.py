"""Run here what GitHub would run: the `run:` steps of each workflow, in order, with the variables the workflow gives.

    python -m devtools.run_workflows                     every scenario below, in a clean clone of HEAD
    python -m devtools.run_workflows deploy              one of them
    python -m devtools.run_workflows --list

GitHub's own part is stood in for and nothing else: checkout is the clean clone, artifacts are a folder, a masked value
is masked, and the identity that a job with `id-token: write` asks for comes from local_workspace, which is also
the Databricks workspace behind DATABRICKS_HOST. A step that prints a secret unmasked fails the run.

The scenario `guide` is a reader of docs/databricks.md: each of its commands, in order, against an empty workspace. Host
and token are filled in, and `Booking.csv` is made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"
REPOSITORY = "example/booking_mlops"
CLIENTS = {name: f"00000000-0000-0000-0000-{n:012d}" for n, name in enumerate(("dev", "staging", "prod"), 1)}
# What no workflow sets but a machine may: where packages and archives come from, and where the user is.
_NOT_PASSED_ON = (
    *("DATABRICKS_", "MLFLOW_", "GITHUB_", "ACTIONS_", "DBX_", "BOOKING_LAKE", "BOOKING_PRINCIPAL", "PYTEST_"),
    *("COV_", "VIRTUAL_ENV", "PYTHONPATH", "MAKE", "MFLAGS"),
)
# The same answer for the same commit, whichever workflow asks: once is enough.
ONCE = ("make setup", "make lint", "make check-ci", "make test")


@dataclass(frozen=True)
class Scenario:
    """A workflow and the event that starts it. `environments` have credentials; `refused` is why the run must fail."""

    name: str
    workflow: str
    event: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    environments: tuple[str, ...] = ()
    refused: str = ""


def _pull_request(head: str) -> dict[str, Any]:
    return {"pull_request": {"number": 12, "head": {"repo": {"full_name": head}}}}


SCENARIOS = (
    Scenario("pull-request-of-a-fork", "pull-request.yml", _pull_request("somebody/booking_mlops")),
    Scenario("pull-request", "pull-request.yml", _pull_request(REPOSITORY), environments=("staging",)),
    Scenario("deploy", "deploy.yml", environments=("staging", "prod")),
    Scenario(
        "launch",
        "launch.yml",
        inputs={"environment": "staging", "action": "launch", "workflow": "staging-model-inference-batch"},
        environments=("staging",),
    ),
    Scenario(
        "redeploy",
        "launch.yml",
        inputs={"environment": "prod", "action": "deploy", "workflow": ""},
        environments=("prod",),
    ),
    Scenario(
        "rollback-without-an-earlier-champion",
        "launch.yml",
        inputs={"environment": "staging", "action": "rollback", "workflow": ""},
        environments=("staging",),
        refused="had no champion before version",
    ),
)


GUIDE = "guide"
MADE_FILE = ".venv/bin/booking-mlops make-data --rows 12000 --out Booking.csv"


class WorkflowError(Exception):
    """A step failed, or the workflow uses something that is not stood in for."""


_TOKEN = re.compile(r"\s*(?:('(?:[^']|'')*')|(==|!=|&&|\|\||!|\(|\))|([A-Za-z_][\w.-]*))")


def evaluate(text: str, contexts: Mapping[str, Any], status: str = "success") -> Any:
    """The value of a GitHub expression: literals, contexts, == != && || ! ( ) and the status functions.

    Raises: WorkflowError for anything else.
    """
    tokens: list[tuple[str, str]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise WorkflowError(f"expression '{text}': '{text[position:].strip()}' is not understood")
        literal, operator, name = match.groups()
        tokens.append(("literal", literal[1:-1].replace("''", "'")) if literal is not None
                      else ("operator", operator) if operator else ("name", name))  # fmt: skip
        position = match.end()

    def peek() -> tuple[str, str]:
        return tokens[0] if tokens else ("end", "")

    def either() -> Any:
        value = both()
        while peek() == ("operator", "||"):
            tokens.pop(0)
            other = both()
            value = value or other
        return value

    def both() -> Any:
        value = equality()
        while peek() == ("operator", "&&"):
            tokens.pop(0)
            other = equality()
            value = value and other
        return value

    def equality() -> Any:
        value = single()
        while peek() in (("operator", "=="), ("operator", "!=")):
            equal = tokens.pop(0)[1] == "=="
            value = (_plain(value) == _plain(single())) == equal
        return value

    def single() -> Any:
        kind, word = tokens.pop(0) if tokens else ("end", "")
        if (kind, word) == ("operator", "!"):
            return not single()
        if (kind, word) == ("operator", "("):
            value = either()
            close()
            return value
        if kind == "literal":
            return word
        if kind != "name":
            raise WorkflowError(f"expression '{text}' is not understood")
        if peek() == ("operator", "("):
            tokens.pop(0)
            close()
            return _status_function(word, status)
        return _look_up(word, contexts)

    def close() -> None:
        if (tokens.pop(0) if tokens else None) != ("operator", ")"):
            raise WorkflowError(f"expression '{text}': a ) is missing")

    value = either()
    if tokens:
        raise WorkflowError(f"expression '{text}': '{tokens[0][1]}' is not expected")
    return value


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _status_function(name: str, status: str) -> bool:
    known = {"success": status == "success", "failure": status == "failure", "always": True, "cancelled": False}
    if name not in known:
        raise WorkflowError(f"function {name}() has no stand-in")
    return known[name]


def _look_up(name: str, contexts: Mapping[str, Any]) -> Any:
    if name in ("true", "false"):
        return name == "true"
    first, *rest = name.split(".")
    if first not in contexts:
        raise WorkflowError(f"context '{first}' has no stand-in; known: {', '.join(sorted(contexts))}")
    value: Any = contexts[first]
    for part in rest:
        # As on GitHub, what is not there is empty.
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def fill(text: Any, contexts: Mapping[str, Any], status: str = "success") -> str:
    """Text with its `${{ … }}` replaced."""
    return re.sub(
        r"\$\{\{(.*?)\}\}", lambda match: _plain(evaluate(match[1], contexts, status)), _plain(text), flags=re.DOTALL
    )


def condition(text: Any, contexts: Mapping[str, Any], status: str) -> bool:
    """Whether a step's `if:` holds. Without a status function it asks for success too, as GitHub does."""
    inner = str(text if text is not None else "success()").strip()
    match = re.fullmatch(r"\$\{\{(.*)\}\}", inner, re.DOTALL)
    inner = match[1] if match else inner
    holds = bool(evaluate(inner, contexts, status))
    asks = re.search(r"\b(success|failure|always|cancelled)\(\)", inner)
    return holds and (bool(asks) or status == "success")


def guide_steps(text: str, given: Collection[str]) -> list[str]:
    """A script for each fence without a language in a Markdown guide, as if all were typed into one shell.

    The exports of the variables `given` are left out.

    Raises: WorkflowError when the guide does not export one of them.
    """
    steps, state, exported = [], [], set()
    for language, fence in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if language:
            continue
        lines = []
        for line in fence.splitlines():
            name = line.removeprefix("export ").partition("=")[0]
            if line.startswith("export ") and name in given:
                exported.add(name)
            else:
                lines.append(line)
        steps.append("\n".join([*state, *lines]))
        state += [line for line in lines if line.startswith(("export ", "source "))]
    missing = set(given) - exported
    if missing:
        raise WorkflowError(f"the guide does not export {', '.join(sorted(missing))}")
    return steps


def in_order(jobs: Mapping[str, Any]) -> list[str]:
    """Job names, each after those it needs."""
    ordered: list[str] = []

    def add(name: str) -> None:
        needs = jobs[name].get("needs", [])
        for needed in [needs] if isinstance(needs, str) else needs:
            add(needed)
        if name not in ordered:
            ordered.append(name)

    for name in jobs:
        add(name)
    return ordered


class Server:
    """local_workspace, kept up in a process of its own for one scenario."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-m", "local_workspace", "--root", str(root), "--port", "0", "serve"]
        self._log = (root.parent / f"{root.name}.log").open("w")
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                self.url = found[0]
                break
        else:
            raise WorkflowError(f"local_workspace did not start; see {self._log.name}")
        self.token = (root / "token").read_text(encoding="utf-8").strip()

    def variables(self) -> dict[str, str]:
        """What leads `http://ENV.workspace.test` there."""
        direct = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
        return dict.fromkeys(("http_proxy", "HTTP_PROXY"), self.url) | direct

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=60)
        self._log.close()


class Runner:
    """Runs scenarios in one clean clone; the installed environment is kept between jobs, like a runner's cache."""

    def __init__(self, clone: Path, work: Path, done: Sequence[str]) -> None:
        self.clone = clone
        self.work = work
        self.done = set(done)
        self.server: Server | None = None

    @contextmanager
    def workspace(self, name: str) -> Iterator[None]:
        """A new local_workspace to run scenarios against."""
        root = self.work / name
        root.mkdir()
        self.server = Server(root)
        try:
            yield
        finally:
            self.server.stop()

    def run(self, scenario: Scenario) -> None:
        """Every job of the scenario's workflow.

        Raises: WorkflowError.
        """
        workflow = yaml.safe_load((self.clone / ".github" / "workflows" / scenario.workflow).read_text("utf-8"))
        artifacts = self.work / "artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        artifacts.mkdir()
        for name in in_order(workflow["jobs"]):
            job = workflow["jobs"][name]
            for matrix in _matrix(job):
                label = f"{scenario.name} / {name}" + (f" {dict(matrix)}" if matrix else "")
                if matrix.get("python", _python()) != _python():
                    print(f"== {label}: not this machine's Python", flush=True)
                    continue
                print(f"== {label}", flush=True)
                self._job(scenario, job, matrix, artifacts)

    def _job(self, scenario: Scenario, job: Mapping[str, Any], matrix: Mapping[str, Any], artifacts: Path) -> None:
        contexts: dict[str, Any] = {
            "github": {"event": scenario.event, "repository": REPOSITORY},
            "inputs": scenario.inputs,
            "matrix": matrix,
            "vars": {},
        }
        environment = fill(job.get("environment", ""), contexts)
        credentials = environment in scenario.environments
        if credentials:
            contexts["vars"] = {
                "DATABRICKS_HOST": f"http://{environment}.workspace.test",
                "DATABRICKS_CLIENT_ID": CLIENTS[environment],
            }
        env = _machine_environment()
        if credentials:
            assert self.server is not None
            env |= self.server.variables()
            if job.get("permissions", {}).get("id-token") == "write":
                env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = self.server.token
                asked = f"repository={REPOSITORY}&environment={environment}"
                env["ACTIONS_ID_TOKEN_REQUEST_URL"] = f"{self.server.url}/github/identity?{asked}"
        env |= {key: fill(value, contexts) for key, value in job.get("env", {}).items()}
        contexts["env"] = env
        files = {name: self.work / name for name in ("GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
        for name, path in files.items():
            path.write_text("", encoding="utf-8")
            env[name] = str(path)
        secrets: set[str] = set()
        status, first_error = "success", ""
        for step in job["steps"]:
            if not condition(step.get("if"), contexts, status):
                continue
            if "uses" in step:
                self._action(step, contexts, artifacts)
                continue
            command = fill(step["run"], contexts).strip()
            if command in self.done:
                print(f"   {command}: has run on this commit", flush=True)
                continue
            step_env = {**env, **{key: fill(value, contexts) for key, value in step.get("env", {}).items()}}
            error = self._step(command, step_env, secrets)
            if error and status == "success":
                status, first_error = "failure", f"{command}\n{error}"
            if not error and command in ONCE:
                self.done.add(command)
            for line in files["GITHUB_ENV"].read_text(encoding="utf-8").splitlines():
                key, _, value = line.partition("=")
                env[key] = value
            for secret in secrets:
                if secret in files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"):
                    raise WorkflowError(f"{command}\nwrote a secret to the summary")
        summary = files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8").strip()
        if summary:
            print("\n".join(f"   | {line}" for line in summary.splitlines()), flush=True)
        if first_error:
            raise WorkflowError(first_error)

    def guide(self) -> None:
        """What a reader of docs/databricks.md types.

        Raises: WorkflowError.
        """
        assert self.server is not None
        print(f"== {GUIDE}", flush=True)
        self._checkout()
        given = {"DATABRICKS_HOST": "http://prod.workspace.test", "DATABRICKS_TOKEN": self.server.token}
        env = _machine_environment() | self.server.variables() | given
        steps = guide_steps((self.clone / "docs" / "databricks.md").read_text("utf-8"), given)
        for command in (*steps[:1], MADE_FILE, *steps[1:]):
            error = self._step(command, env, {self.server.token})
            if error:
                raise WorkflowError(f"{command}\n{error}")

    def _checkout(self) -> None:
        kept = [word for path in (".venv", ".venv-lint", "*.egg-info") for word in ("-e", path)]
        subprocess.run(["git", "checkout", "-q", "--force", "."], cwd=self.clone, check=True)
        subprocess.run(["git", "clean", "-qfdx", *kept], cwd=self.clone, check=True)

    def _action(self, step: Mapping[str, Any], contexts: Mapping[str, Any], artifacts: Path) -> None:
        name = str(step["uses"]).partition("@")[0]
        given = {key: fill(value, contexts) for key, value in step.get("with", {}).items()}
        if name == "actions/checkout":
            self._checkout()
        elif name == "actions/upload-artifact":
            found = [path for line in given["path"].split() for path in sorted(self.clone.glob(line))]
            if not found and given.get("if-no-files-found") == "error":
                raise WorkflowError(f"upload-artifact: nothing at {given['path']}")
            for path in found:
                target = artifacts / given["name"]
                target.mkdir(exist_ok=True)
                shutil.copy2(path, target)
        elif name == "actions/download-artifact":
            source = artifacts / given["name"]
            if not source.is_dir():
                raise WorkflowError(f"download-artifact: no artifact {given['name']}")
            shutil.copytree(source, self.clone / given["path"], dirs_exist_ok=True)
        elif name != "actions/setup-python":
            raise WorkflowError(f"action {name} has no stand-in")

    def _step(self, command: str, env: Mapping[str, str], secrets: set[str]) -> str:
        """Run one step as GitHub's bash does. Returns '' or what went wrong."""
        shown = command.strip().replace("\n", "\n   ")
        start = time.monotonic()
        process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=self.clone, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        lines, leaked = [], False
        for line in process.stdout:
            if line.startswith("::add-mask::"):
                secrets.add(line.removeprefix("::add-mask::").strip())
                continue
            leaked = leaked or any(secret in line for secret in secrets)
            lines.append(line.rstrip("\n"))
        code = process.wait()
        print(f"   {shown}  ({time.monotonic() - start:.1f} s)", flush=True)
        masked = "\n".join(lines)
        for secret in secrets:
            masked = masked.replace(secret, "***")
        if leaked:
            return f"printed a secret\n{masked}"
        return f"exit code {code}\n{masked}" if code else ""


def _machine_environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_PASSED_ON)}
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve().parent
    own = str(Path(sys.executable).parent)
    path = [part for part in kept.get("PATH", "").split(os.pathsep) if part != own]
    return {
        **kept,
        "PATH": os.pathsep.join([str(base), *path]),
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_REPOSITORY": REPOSITORY,
    }


def _matrix(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    combinations: list[dict[str, Any]] = [{}]
    for name, values in job.get("strategy", {}).get("matrix", {}).items():
        combinations = [{**given, name: value} for given in combinations for value in values]
    return combinations


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@contextmanager
def clean_clone(venv: Path | None) -> Iterator[tuple[Path, Path]]:
    """HEAD in a new folder, and a folder beside it; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="workflows-") as folder:
        work, clone = Path(folder), Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        if venv is not None:
            (clone / ".venv").symlink_to(venv.resolve())
            # make compares times: the clone's files are new, what is installed is of the same commit.
            for name in ("setup.py", "requirements/dev.lock"):
                if (clone / name).exists():
                    os.utime(clone / name, (0, 0))
        try:
            yield clone, work
        finally:
            if venv is not None:
                # The workflows' own `make setup` made it the clone's.
                install = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", str(ROOT)]
                quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
                subprocess.run([venv / "bin" / "python", *install], check=True, env=quiet)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="default: all of them")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--venv", type=Path, help="an environment that `make setup` made for this commit, to save time")
    parser.add_argument(
        "--already", action="append", default=[], metavar="COMMAND", choices=ONCE,
        help="a step that this build has run on this commit: make lint, make check-ci, make test",
    )  # fmt: skip
    arguments = parser.parse_args()
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if arguments.list:
        print("\n".join([*(f"{one.name}: {one.workflow}" for one in SCENARIOS), f"{GUIDE}: docs/databricks.md"]))
        return
    chosen = arguments.scenario or [*known, GUIDE]
    unknown = [name for name in chosen if name not in known and name != GUIDE]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; known: {', '.join(known)}, {GUIDE}")
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=True).stdout:
        print("note: uncommitted changes are not part of the clean clone", file=sys.stderr)
    with clean_clone(arguments.venv) as (clone, work):
        runner = Runner(clone, work, arguments.already)
        try:
            scenarios = [known[name] for name in chosen if name != GUIDE]
            if scenarios:
                with runner.workspace("workspace"):
                    for scenario in scenarios:
                        _run(runner, scenario)
            if GUIDE in chosen:
                with runner.workspace("empty"):
                    runner.guide()
        except WorkflowError as error:
            sys.exit(f"error: {error}")
    print("every workflow ran through")


def _run(runner: Runner, scenario: Scenario) -> None:
    try:
        runner.run(scenario)
    except WorkflowError as error:
        if scenario.refused and scenario.refused in str(error):
            print(f"   refused, as it must be: {scenario.refused}", flush=True)
            return
        raise
    if scenario.refused:
        raise WorkflowError(f"{scenario.name} must be refused: {scenario.refused}")


if __name__ == "__main__":
    main()
