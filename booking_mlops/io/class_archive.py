"""An archive of the Java classes that Spark loads: later starts map it instead of loading the classes again.

It is a dynamic archive of class data sharing (JEP 350). Java writes it when the program ends, and ignores one that
was made for other classes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from booking_mlops.io.java import Java

log = logging.getLogger(__name__)

_OLDEST_JAVA = 13
_ROOM = 2 * 2**30
"""Free bytes below which no archive is made; one has about 170 MB."""
_AT_WORK = 600.0
"""Seconds after which an unfinished file is taken to be a killed program's."""
_MAGIC = 4
# Java would print a line for each of a thousand classes it can't archive.
_QUIET = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off")


def archive_options(folder: Path, java: Java, libraries: Sequence[str], *, write: bool, now: float) -> tuple[str, ...]:
    """Return Java's options to use the archive in `folder` or, with `write`, to make it when there is none.

    `libraries` are the names and versions of what is loaded; `now` is in seconds since 1970. No options are returned
    when Java is too old, the folder can't be written to, or another program is making the archive.
    """
    if java.major < _OLDEST_JAVA:
        return ()
    # Java ignores an archive when the libraries have moved, so their place is part of the name.
    made_for = (java.version, str(folder.resolve()), *libraries)
    stem = f"classes-{hashlib.sha256(repr(made_for).encode()).hexdigest()[:12]}"
    try:
        parts = sorted(folder.glob(f"{stem}.*.part"))
        archive = _kept(folder, stem)
        if archive is None:
            finished = next(filter(_finished, parts), None)
            archive = _keep(finished, stem) if finished else None
        if archive is None and (not write or any(now - part.stat().st_mtime < _AT_WORK for part in parts)):
            return ()
        for useless in {*parts, *folder.glob(f"{stem}.*.jsa")} - {archive}:
            useless.unlink(missing_ok=True)
        if archive:
            return (_option("SharedArchiveFile", archive), *_QUIET)
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _ROOM:
            return ()
        base = () if java.shares_classes else (_option("SharedArchiveFile", _base(folder, java)),)
        part = folder / f"{stem}.{os.getpid()}.part"
        part.touch()
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("no class archive: %s", error)
        return ()
    log.info("Java archives the classes it loads, for quicker starts; this first run takes some seconds longer")
    return (*base, _option("ArchiveClassesAtExit", part), *_QUIET)


def _base(folder: Path, java: Java) -> Path:
    """Return the archive of Java's own classes, which the other builds on; make it when Java came without one."""
    stem = f"java-{hashlib.sha256(java.version.encode()).hexdigest()[:12]}"
    archive = _kept(folder, stem)
    if archive is None:
        part = folder / f"{stem}.{os.getpid()}.part"
        # With much memory Java lays out objects in another way; Spark's Java has a fixed, smaller heap.
        command = [java.executable, "-Xmx1g", "-Xshare:dump", f"-XX:SharedArchiveFile={part}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        archive = _keep(part, stem)
    return archive


def _option(name: str, file: Path) -> str:
    return f'"-XX:{name}={file}"'


def _keep(part: Path, stem: str) -> Path:
    """Give a finished file its final name, which holds its size: Java crashes on a file that was cut."""
    with part.open("rb") as file:
        # Java does not check what it maps, so the file must be on the disk before it gets its name.
        os.fsync(file)
    return part.replace(part.with_name(f"{stem}.{part.stat().st_size}.jsa"))


def _kept(folder: Path, stem: str) -> Path | None:
    for archive in folder.glob(f"{stem}.*.jsa"):
        if archive.name == f"{stem}.{archive.stat().st_size}.jsa":
            return archive
    return None


def _finished(part: Path) -> bool:
    """Say whether Java has written the whole file: the header comes last, and is zeros until then."""
    with part.open("rb") as file:
        head = file.read(_MAGIC)
    return len(head) == _MAGIC and any(head)
