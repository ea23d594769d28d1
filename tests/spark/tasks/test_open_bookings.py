"""Bookings whose outcome is not known yet: how they are read, and what becomes of them in each table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from booking_mlops.tasks.setup_data import SetupData
from tests.conftest import Environment, write_bookings
from tests.spark.conftest import make_task

pytestmark = pytest.mark.usefixtures("spark")


def restated(lines: list[str], **words: str) -> list[str]:
    """The lines of a file with other words for `Canceled` and `Not_Canceled`."""
    return [lines[0], *(",".join([*line.split(",")[:-1], words[line.split(",")[-1]]]) for line in lines[1:])]


def states(spark: Any, environment: Environment) -> dict[str, int]:
    """How many bookings there are of each status."""
    rows = spark.table(environment.table("bookings")).groupBy("booking_status").count().collect()
    return {row["booking_status"]: row["count"] for row in rows}


class TestReading:
    def test_each_spelling_is_one_of_three_states_and_open_bookings_are_no_bad_rows(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = write_bookings(csv, 40)
        words = ["No-Show", "CANCELED", "1", "check out", "0", "", "NULL", "NaN", "Booked", "Checked_In", "pending"]
        for place, word in enumerate(words, start=1):
            lines[place] = lines[place].rsplit(",", 1)[0] + f",{word}"
        csv.write_text("\n".join(lines), encoding="utf-8")
        result = make_task(SetupData, spark, environment, f"source_csv={csv}", "max_rejected_share=0").run()
        assert (result.bookings, result.rejected) == (40, 0)
        found = {
            row["booking_id"]: row["booking_status"] for row in spark.table(environment.table("bookings")).collect()
        }
        assert [found[line.split(",")[0]] for line in lines[1:12]] == (
            ["Canceled"] * 3 + ["Not_Canceled"] * 2 + ["Open"] * 6
        )
        assert result.states == states(spark, environment)
        assert ", 6 open" in dict(result.summary())["states"]

    def test_an_unknown_word_is_a_bad_row_that_names_the_nearest(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = write_bookings(csv, 100)
        for place, word in enumerate(["Cancled", "chekout", "Konfirmed", "it's"], start=1):
            lines[place] = lines[place].rsplit(",", 1)[0] + f",{word}"
        csv.write_text("\n".join(lines), encoding="utf-8")
        result = make_task(SetupData, spark, environment, f"source_csv={csv}", "max_rejected_share=0.04").run()
        reasons = {row["source_line"]: row["reason"] for row in
                   spark.table(environment.table("bookings_rejected")).collect()}  # fmt: skip
        assert reasons[2] == 'booking status: "Cancled" is not in status_words; the nearest there is Canceled'
        assert [reasons[line].rsplit(" ", 1)[-1] for line in (3, 4)] == ["Check-Out", "Confirmed"]
        assert '"it\'s" is not in status_words' in reasons[5]
        assert "1 × booking status: is not in status_words; the nearest there is Canceled" in [
            text for _, text in result.summary()
        ]

    def test_words_can_be_configured_and_other_words_make_another_table(
        self, spark: Any, environment: Environment, tmp_path: Path
    ) -> None:
        csv = tmp_path / "Booking.csv"
        lines = write_bookings(csv, 60)
        csv.write_text("\n".join(restated(lines, Canceled="Storniert", Not_Canceled="da gewesen")), encoding="utf-8")

        def ingest(kept: str, cancelled: str) -> Any:
            words = f"status_words={{kept: [{kept}], cancelled: [{cancelled}]}}"
            return make_task(SetupData, spark, environment, f"source_csv={csv}", words).run()

        assert ingest("Da-Gewesen", "storniert").written
        before = states(spark, environment)
        assert before["Canceled"] == sum(line.endswith(",Canceled") for line in lines)
        assert not ingest("da gewesen, Da-Gewesen", "STORNIERT").written
        assert ingest("storniert", "Da Gewesen").written
        assert states(spark, environment) == {"Canceled": before["Not_Canceled"], "Not_Canceled": before["Canceled"]}
