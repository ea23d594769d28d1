"""Tells what the machine refuses, such as room on a disk, from mistakes in the program."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from contextlib import suppress

from booking_mlops.io.tables import root_cause, spark_errors

_NO_ROOM = os.strerror(errno.ENOSPC)
_OF_JAVA = re.compile(
    r"java\.(io|nio\.file|net)\.(?!NotSerializable)\w+Exception|OutOfMemoryError|StackOverflowError|FileNotFoundException|"
    r"FAILED_READ_FILE|No space left"
)


def fault_of_the_machine(error: BaseException) -> str | None:
    """Return in one line what the machine refused; None when the error is a mistake in the program."""
    fault = _fault_of_the_machine(error)
    if fault is None or not fault.endswith(_NO_ROOM):
        return fault
    with suppress(OSError):
        return f"{fault}: make room where the tables are or in {tempfile.gettempdir()}, or set TMPDIR to another folder"
    return fault


def _fault_of_the_machine(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno is not None:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}"
    if isinstance(error, MemoryError):
        return "Python has no memory left"
    # Without Spark there are none of its errors, and importing it takes its time.
    if "pyspark" not in sys.modules:
        return None
    if _is_lost_java(error):
        return "Java, in which Spark runs, has ended: perhaps for lack of memory, which other programs may use"
    if not isinstance(error, spark_errors()):
        return None
    text = f"{error} {getattr(error, '_stackTrace', '')} {getattr(error, '_cause', '')}"
    return root_cause(error) if _OF_JAVA.search(text) else None


def _is_lost_java(error: BaseException) -> bool:
    """Say whether the connection to Java is gone: py4j raises its general error then, without what Java says."""
    try:
        from py4j.protocol import Py4JError, Py4JNetworkError
    except ImportError:
        return False
    unexplained = type(error) is Py4JError and not any(word in str(error) for word in ("Trace:", "does not exist"))
    return isinstance(error, Py4JNetworkError) or unexplained
