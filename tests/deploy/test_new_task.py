"""A task is a file, its YAML and a row in deployment.yml: then it is a command, an entry point and a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.deploy.conftest import Server

TASK = '''
"""`greet`: say hello to the environment."""

from dataclasses import dataclass

from booking_mlops.config.environment import EnvConfig
from booking_mlops.tasks.task import Result, Task


@dataclass(frozen=True)
class GreetConfig:
    """`greet`: what to say."""

    env: EnvConfig
    greeting: str = "hello"


@dataclass(frozen=True)
class GreetResult(Result):
    """What was said."""

    text: str

    def summary(self) -> list[tuple[str, str]]:
        """Return the text."""
        return [("said", self.text)]


class Greet(Task[GreetConfig, GreetResult]):
    """Greets the environment."""

    name = "greet"
    config_type = GreetConfig
    help = "Say hello to the environment."

    def run(self) -> GreetResult:
        """Greet."""
        return GreetResult(f"{self.config.greeting}, {self.session.env.environment}")
'''
LAST_ROW = '  ("model-rollback", "", 0),\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one more task."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("booking_mlops", "devtools", "local_workspace", "conf", ".dbx"):
        shutil.copytree(
            ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "lock.json")
        )
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "deployment.yml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "booking_mlops" / "tasks" / "greet.py").write_text(TASK, encoding="utf-8")
    (folder / "conf" / "tasks" / "greet.yml").write_text("greeting: good morning\n", encoding="utf-8")
    deployment = folder / "deployment.yml"
    text = deployment.read_text(encoding="utf-8")
    assert text.count(LAST_ROW) == 1
    deployment.write_text(text.replace(LAST_ROW, LAST_ROW + '  ("greet", "", 0),\n'), encoding="utf-8")
    return folder


def command_line(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from booking_mlops.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=project, env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_it_is_a_command_that_reads_its_yaml(project: Path) -> None:
    assert "Say hello to the environment." in command_line(project, "--help").stdout
    done = command_line(project, "greet")
    assert done.returncode == 0, done.stderr
    assert "good morning, local" in done.stdout
    refused = command_line(project, "greet", "--set", "greting=hi")
    assert refused.returncode == 1
    assert "unknown key 'greting'; did you mean 'greeting'?" in refused.stderr
    checked = command_line(project, "config", "validate")
    assert "10 tasks valid in 4 environments" in checked.stdout, checked.stderr
    assert "31 workflows in 3 environments are sound" in command_line(project, "deployment", "check").stdout


def test_it_is_an_entry_point_of_the_wheel_and_a_job(project: Path, server: Server) -> None:
    server.prepare("dev")
    deployed = server.dbx("deploy", "dev-greet", "--environment", "dev", cwd=project)
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    launched = server.dbx("launch", "dev-greet", "--environment", "dev", "--trace", cwd=project)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    runs = server.api("dev", "GET", "jobs/runs/list", job_id=server.jobs("dev")["dev-greet"])["runs"]
    run = server.api("dev", "GET", f"jobs/runs/get?run_id={runs[0]['run_id']}")
    assert run["state"]["result_state"] == "SUCCESS"
    assert "good morning, dev" in server.log("dev", run["tasks"][0]["run_id"])
