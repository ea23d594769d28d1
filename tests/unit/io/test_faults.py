from __future__ import annotations

import tempfile

import pytest

from booking_mlops.io.faults import fault_of_the_machine

pytest.importorskip("pyspark")
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException

GONE = "Java, in which Spark runs, has ended: perhaps for lack of memory, which other programs may use"
MAKE_ROOM = f"make room where the tables are or in {tempfile.gettempdir()}, or set TMPDIR to another folder"
TRACE = """An error occurred while calling o1.collect.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 1.0 failed 1 times
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2)
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PySparkException(TRACE), f"No space left on device: {MAKE_ROOM}"),
        (OSError(28, "No space left on device"), f"No space left on device: {MAKE_ROOM}"),
        (PySparkException("[TABLE_OR_VIEW_NOT_FOUND] The table `a` cannot be found."), None),
        (
            PySparkException(
                TRACE.replace("java.io.IOException", "java.io.NotSerializableException").split(" left")[0]
            ),
            None,
        ),
        (Py4JError("An error occurred while calling o97.collectToPython"), GONE),
        (Py4JNetworkError("Answer from Java side is empty"), GONE),
        (
            Py4JError(
                "An error occurred while calling o9.none. Trace:\npy4j.Py4JException: Method none does not exist"
            ),
            None,
        ),
        (PermissionError(13, "Permission denied", "/lake"), "/lake: Permission denied"),
        (MemoryError(), "Python has no memory left"),
        (OSError("raised by a library, without a number"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_what_the_machine_refuses_is_told_from_a_mistake(error: Exception, said: str | None) -> None:
    assert fault_of_the_machine(error) == said
