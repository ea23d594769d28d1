"""Spark's classes, kept as Java has them once they are loaded: later starts map them instead of loading them again.

Java calls it a dynamic archive of class data sharing (JEP 350). Java writes it when its program has ended, and ignores
one that does not fit what it starts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
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
        archive = next(filter(_whole, folder.glob(f"{stem}.*.jsa")), None)
        finished = None if archive else next(filter(_finished, parts), None)
        if finished:
            # The size tells a whole file from one that was cut: with that Java would crash.
            archive = finished.replace(folder / f"{stem}.{finished.stat().st_size}.jsa")
        if archive is None and (not write or any(now - part.stat().st_mtime < _AT_WORK for part in parts)):
            return ()
        for useless in {*parts, *folder.glob(f"{stem}.*.jsa")} - {archive}:
            useless.unlink(missing_ok=True)
        if archive:
            return (f'"-XX:SharedArchiveFile={archive}"', *_QUIET)
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < _ROOM:
            return ()
        part = folder / f"{stem}.{os.getpid()}.part"
        part.touch()
    except OSError as error:
        log.debug("no class archive: %s", error)
        return ()
    log.info("for quicker starts Java keeps the classes it loads; this once the run takes some seconds longer")
    return (f'"-XX:ArchiveClassesAtExit={part}"', *_QUIET)


def _whole(archive: Path) -> bool:
    return archive.stem.rpartition(".")[2] == str(archive.stat().st_size)


def _finished(part: Path) -> bool:
    """Whether Java has written all of a file: the header comes last, and is zeros until then."""
    with part.open("rb") as file:
        head = file.read(_MAGIC)
        if len(head) < _MAGIC or not any(head):
            return False
        # Java trusts what it maps: a power cut must not leave a file with a hole.
        os.fsync(file)
    return True
