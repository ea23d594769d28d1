from __future__ import annotations

import csv
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from booking_mlops import tasks
from booking_mlops.core.bookings.schema import CSV_HEADER
from booking_mlops.errors import ConfigError
from booking_mlops.tasks import task_keys, task_type, task_types
from tests.conftest import Cli

TASKS = [
    "setup-data",
    "feature-table-creation",
    "model-train",
    "model-inference-batch",
    "outlook",
    "model-monitor",
    "model-rollback",
    "model-approve",
    "integration-test",
]


def test_help_names_every_task_and_shows_how_to_begin(booking_mlops: Cli) -> None:
    outcome = booking_mlops("--help")
    assert outcome.code == 0
    for word in [*TASKS, "config", "synthetic-data", "make-data", "examples:", "--booking-csv"]:
        assert word in outcome.out


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_a_command_and_an_entry_point_of_the_wheel(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = entry_points(group="console_scripts", name=task)
    program = found.load()
    with pytest.raises(SystemExit) as stopped:
        program(["--help"])
    assert stopped.value.code == 0
    assert "--conf-file" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        program(["--env", "nowhere"])
    assert stopped.value.code == 1
    assert "nowhere.yml: no such file" in capsys.readouterr().err


def test_the_tasks_are_the_files_of_the_folder() -> None:
    assert [key.replace("_", "-") for key in task_keys()] == sorted(TASKS)
    assert [task.key() for task in task_types()] == list(task_keys())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1", "holds 0 subclasses of Task, not one; what tasks share belongs in services"),
        (
            "from booking_mlops.tasks.task import Task\nclass A(Task):\n    name = 'other-name'",
            "the task is named other-name; name the file other_name.py",
        ),
    ],
)
def test_a_file_that_is_no_task_is_an_error_that_says_so(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stray.py").write_text(content, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "booking_mlops.tasks.stray", raising=False)
    with pytest.raises(ConfigError, match=message):
        task_type("stray")


def test_a_wrong_call_is_code_2(booking_mlops: Cli) -> None:
    assert booking_mlops("no-such-task").code == 2
    assert booking_mlops().code == 2


def test_synthetic_data_writes_a_file_and_never_over_one(tmp_path: Path, booking_mlops: Cli) -> None:
    target = tmp_path / "sub" / "made.csv"
    assert booking_mlops("synthetic-data", "--rows", "50", "--out", target).code == 0
    with target.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == CSV_HEADER
    assert len(rows) == 51
    again = booking_mlops("make-data", "--rows", "10", "--out", target)
    assert again.code == 1
    assert "--force" in again.err
    assert booking_mlops("make-data", "--rows", "10", "--out", target, "--force").code == 0
    assert len(target.read_text(encoding="utf-8").splitlines()) == 11
    assert booking_mlops("make-data", "--rows", "0", "--out", target).code == 1


def test_the_command_line_starts_without_what_only_a_task_needs() -> None:
    heavy = ("sklearn", "scipy", "mlflow", "pyspark", "matplotlib")
    ask = f"import sys, booking_mlops.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
