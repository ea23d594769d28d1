from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from booking_mlops.errors import DataQualityError
from booking_mlops.io.machine import Machine
from booking_mlops.io.source_files import SourceFile, in_order, list_files

LAPTOP = Machine(on_cluster=False, lake=Path())


def changed(name: str, milliseconds: int) -> SourceFile:
    moment = datetime(2026, 3, 1, tzinfo=timezone.utc) + timedelta(milliseconds=milliseconds)
    return SourceFile(f"file:/{name}", name, moment, 1)


def test_the_file_changed_last_comes_last_and_those_copied_together_are_by_name() -> None:
    # A copy of a folder makes its files in any order.
    files = [
        changed("day3", 0),
        changed("day1", 300),
        changed("day2", 600),
        changed("day0", 5_000),
        changed("a", 6_000),
    ]
    assert [file.name for file in in_order(files)] == ["day1", "day2", "day3", "day0", "a"]


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "empty").mkdir()
    for name, said in {
        "none.csv": "no such file",
        "loop.csv": "no such file",
        "pipe.csv": "a pipe or a device, not a file",
        "empty": "no files in this folder",
        "*.csv": "no such file",
        "x" * 300: "File name too long",
        "a**b.csv": "no such file|Invalid pattern",
        "nul\0.csv": "no such file|null byte",
    }.items():
        with pytest.raises(DataQualityError, match=said):
            list_files(None, LAPTOP, str(tmp_path / name))  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_looked_at_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    for path in (closed, closed / "Booking.csv", closed / "*.csv"):
        with pytest.raises(DataQualityError, match=r"Permission denied|no such file"):
            list_files(None, LAPTOP, str(path))  # type: ignore[arg-type]
