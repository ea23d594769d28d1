from __future__ import annotations

import errno
import importlib.util
import io
import os
import sys
import tempfile

import pytest

from booking_mlops import entrypoints, runner


def test_an_interruption_is_not_a_traceback() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    assert runner.exit_code_of(stop) == 130


def test_a_bug_keeps_its_traceback() -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runner.exit_code_of(bug)


def test_what_the_machine_refuses_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/report.html")

    room = f"make room where the tables are or in {tempfile.gettempdir()}, or set TMPDIR to another folder"

    assert runner.exit_code_of(full) == 1
    assert capsys.readouterr().err == f"error: /data/report.html: No space left on device: {room}\n"


def test_signs_that_the_locale_lacks_do_not_stop_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert runner.exit_code_of(lambda: print("Zürich → Genève")) == 0
    sys.stdout.flush()
    assert written.getvalue() == b"Z\\xfcrich \\u2192 Gen\\xe8ve\n"


def test_what_is_imported_in_the_background_exists() -> None:
    # A module that can't be imported is passed over: the task that needs it is to fail.
    assert runner.SLOW_IMPORTS
    for name in runner.SLOW_IMPORTS:
        assert importlib.util.find_spec(name), name


def test_an_entry_point_without_a_task_says_which_file_is_missing() -> None:
    with pytest.raises(AttributeError, match=r"booking_mlops/tasks has no model_trian\.py"):
        entrypoints.model_trian  # noqa: B018
