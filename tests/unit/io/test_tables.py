from __future__ import annotations

import pytest

from booking_mlops.io.tables import message_of


@pytest.mark.parametrize(
    "line",
    [
        "no disk left",
        "java.io.IOException: no disk left",
        "org.apache.spark.SparkException: java.io.IOException: no disk left",
        "org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] no disk left SQLSTATE: KD001",
        "[TASK_WRITE_FAILED] no disk left SQLSTATE: 58030",
        "(org.apache.spark.SparkException) [TASK_WRITE_FAILED] no disk left SQLSTATE: 58030",
        "(java.io.IOException) no disk left",
    ],
    ids=["plain", "Java", "wrapped", "Spark 4", "without class", "Connect", "Connect, Java"],
)
def test_a_line_of_sparks_loses_what_is_not_for_people(line: str) -> None:
    assert message_of(line) == "no disk left"


def test_brackets_and_parentheses_of_the_message_stay() -> None:
    assert message_of("java.io.IOException: part (3) of [a.csv] is cut") == "part (3) of [a.csv] is cut"
