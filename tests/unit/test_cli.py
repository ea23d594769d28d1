from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from booking_mlops import cli
from booking_mlops.core.bookings.schema import CSV_HEADER
from booking_mlops.tasks import base
from tests.conftest import Cli

TASKS = [
    "setup-data",
    "feature-table-creation",
    "model-train",
    "model-inference-batch",
    "model-monitor",
    "model-rollback",
    "integration-test",
]


def test_help_names_every_task_and_shows_how_to_begin(booking_mlops: Cli) -> None:
    outcome = booking_mlops("--help")
    assert outcome.code == 0
    for word in [*TASKS, "config", "make-data", "examples:", "--booking-csv"]:
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


def test_the_keys_in_yaml_are_the_tasks() -> None:
    assert [task.key() for task in cli.TASKS] == list(base.TASK_KEYS)


def test_a_wrong_call_is_code_2(booking_mlops: Cli) -> None:
    assert booking_mlops("no-such-task").code == 2
    assert booking_mlops().code == 2


def test_make_data_writes_a_file_and_never_over_one(tmp_path: Path, booking_mlops: Cli) -> None:
    target = tmp_path / "sub" / "made.csv"
    assert booking_mlops("make-data", "--rows", "50", "--out", target).code == 0
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


def test_an_interruption_is_not_a_traceback() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    assert base.guarded(stop) == 130


def test_a_bug_keeps_its_traceback() -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        base.guarded(bug)


def test_the_principal_is_the_operators_word_or_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOKING_PRINCIPAL", "sp-prod")
    assert base.principal() == "sp-prod"
    monkeypatch.delenv("BOOKING_PRINCIPAL")
    monkeypatch.setenv("USER", "someone")
    monkeypatch.setenv("LOGNAME", "someone")
    assert base.principal() == "someone"
    monkeypatch.setattr(base.getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError("no account")))
    assert base.principal() == "unknown"


def test_what_is_imported_early_exists() -> None:
    # A name that can't be imported is passed over without a word: the task itself is to fail then.
    names = {name for task in cli.TASKS for name in task.slow_imports}
    assert names
    for name in names:
        assert importlib.util.find_spec(name), name


def test_the_command_line_starts_without_what_only_a_task_needs() -> None:
    heavy = ("sklearn", "scipy", "mlflow", "pyspark", "matplotlib")
    ask = f"import sys, booking_mlops.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
