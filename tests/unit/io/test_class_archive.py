from __future__ import annotations

import os
import re
from pathlib import Path

from booking_mlops.io.class_archive import archive_options
from booking_mlops.io.java import Java

JAVA = Java("java", None, 17, "openjdk 17.0.15, sharing")
NOW = 1_800_000_000.0


def class_files(folder: Path) -> list[str]:
    return sorted(file.suffix for file in folder.iterdir())


def test_java_keeps_its_classes_once_and_starts_with_them_from_then_on(tmp_path: Path) -> None:
    folder = tmp_path / "share"

    def options(*libraries: str, write: bool = True, java: Java = JAVA) -> str:
        return " ".join(archive_options(folder, java, libraries or ("3.5",), write=write, now=NOW))

    assert options(write=False) == ""
    assert options(java=Java("java", None, 11, "11, sharing")) == ""
    assert not folder.exists()
    (part,) = re.findall(r"ArchiveClassesAtExit=(.*)\"", options())
    os.utime(part, (NOW - 60, NOW - 60))
    # Another program is at it, or was killed at it.
    assert options() == ""
    os.utime(part, (NOW - 3600, NOW - 3600))
    assert "ArchiveClassesAtExit" in options()

    Path(part).write_bytes(bytes(4096) + b"classes")
    assert "SharedArchiveFile" not in options()
    Path(part).write_bytes(b"\xa8\xab\x0b\xf0" + b"classes")
    (archive,) = re.findall(r"SharedArchiveFile=(.*)\"", options(write=False))
    assert Path(archive).read_bytes().endswith(b"classes")
    assert class_files(folder) == [".jsa"]
    assert "ArchiveClassesAtExit" in options("3.6")
    moved = folder.rename(tmp_path / "moved")
    assert "ArchiveClassesAtExit" in " ".join(archive_options(moved, JAVA, ("3.5",), write=True, now=NOW))
    moved.rename(folder)
    assert "ArchiveClassesAtExit" in options(java=Java("java", None, 17, "17.0.16, sharing"))


def test_a_java_that_cannot_keep_its_own_classes_starts_as_ever(tmp_path: Path) -> None:
    for broken in ("/nowhere/java", "false"):
        java = Java(broken, None, 17, "openjdk 17.0.15, mixed mode")
        assert archive_options(tmp_path, java, ("3.5",), write=True, now=NOW) == ()
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_to_write_to_java_starts_as_ever(tmp_path: Path) -> None:
    (tmp_path / "share").write_text("a file", encoding="utf-8")
    assert archive_options(tmp_path / "share", JAVA, ("3.5",), write=True, now=NOW) == ()
