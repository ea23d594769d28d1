"""Spark's classes, kept as Java has them once they are loaded: later starts map them instead of loading them again.

Java calls it a dynamic archive of class data sharing (JEP 350). Java writes it when its program has ended, and ignores
one that does not fit what it starts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from booking_mlops.io.machine import Java

log = logging.getLogger(__name__)

_OLDEST_JAVA = 13
_ROOM = 2 * 2**30
"""Bytes that must be free: an archive of 170 MB must not be what fills the disk."""
_AT_WORK = 600.0
"""Seconds for which an unfinished file says that another program is at it."""
_MAGIC = 4
# Of a thousand classes Java says that they can't be kept.
_QUIET = ("-Xlog:cds=off", "-Xlog:cds+dynamic=off")


def archive_options(folder: Path, java: Java, libraries: Sequence[str], *, write: bool, now: float) -> tuple[str, ...]:
    """What to start Java with: to use the archive in `folder`, or, with `write`, to make it when there is none.

    `libraries` name the versions of what is loaded; `now` is in seconds since 1970. Nothing where Java is too old for
    it, the folder can't be written to, or another program is making the archive.
    """
    if java.major < _OLDEST_JAVA:
        return ()
    stem = f"classes-{hashlib.sha256(repr((java.version, *libraries)).encode()).hexdigest()[:12]}"
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
    log.info("for quicker starts Java keeps the classes it loads; this once the run takes some seconds longer")
    return (*base, _option("ArchiveClassesAtExit", part), *_QUIET)


def _base(folder: Path, java: Java) -> Path:
    """The archive of Java's own classes, which the other builds on: made when this Java came without one."""
    stem = f"java-{hashlib.sha256(java.version.encode()).hexdigest()[:12]}"
    archive = _kept(folder, stem)
    if archive is None:
        part = folder / f"{stem}.{os.getpid()}.part"
        # Where memory is plenty Java would lay out its objects in another way than Spark's, whose memory is set.
        command = [java.executable, "-Xmx1g", "-Xshare:dump", f"-XX:SharedArchiveFile={part}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        archive = _keep(part, stem)
    return archive


def _option(name: str, file: Path) -> str:
    return f'"-XX:{name}={file}"'


def _keep(part: Path, stem: str) -> Path:
    """A finished file under its own name. The size in it tells a whole file from a cut one, on which Java crashes."""
    with part.open("rb") as file:
        # Java trusts what it maps: a power cut must not leave a file with a hole.
        os.fsync(file)
    return part.replace(part.with_name(f"{stem}.{part.stat().st_size}.jsa"))


def _kept(folder: Path, stem: str) -> Path | None:
    for archive in folder.glob(f"{stem}.*.jsa"):
        if archive.name == f"{stem}.{archive.stat().st_size}.jsa":
            return archive
    return None


def _finished(part: Path) -> bool:
    """Whether Java has written all of a file: the header comes last, and is zeros until then."""
    with part.open("rb") as file:
        head = file.read(_MAGIC)
    return len(head) == _MAGIC and any(head)
