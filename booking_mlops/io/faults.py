"""Tells what the machine refuses, such as room on a disk, from mistakes in the program."""

from __future__ import annotations

import re
import sys

from booking_mlops.io.tables import root_cause, spark_errors

_OF_JAVA = re.compile(
    r"java\.(io|nio\.file|net)\.\w+Exception|OutOfMemoryError|StackOverflowError|FileNotFoundException|"
    r"FAILED_READ_FILE|No space left|Answer from Java side is empty|while (sending|receiving)|Connection refused"
)


def fault_of_the_machine(error: BaseException) -> str | None:
    """Return in one line what the machine refused; None when the error is a mistake in the program."""
    if isinstance(error, OSError) and error.errno is not None:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}"
    if isinstance(error, MemoryError):
        return "Python has no memory left"
    # Without Spark there are none of its errors, and importing it takes its time.
    if "pyspark" not in sys.modules or not isinstance(error, (*spark_errors(), *_lost_java())):
        return None
    text = f"{error} {getattr(error, '_stackTrace', '')} {getattr(error, '_cause', '')}"
    return root_cause(error) if _OF_JAVA.search(text) else None


def _lost_java() -> tuple[type[BaseException], ...]:
    try:
        from py4j.protocol import Py4JError
    except ImportError:
        return ()
    return (Py4JError, ConnectionError)
