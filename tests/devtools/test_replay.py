"""What `devtools.replay` gives the tasks as of a day, and how it sums up what came."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from booking_mlops.core.bookings.schema import CSV_HEADER
from devtools.replay import as_known_on, as_markdown, main, months

DAY = date(2018, 6, 1)


def line(name: str, arrival: str, lead_time: int) -> list[str]:
    """Return a line of Booking.csv of a cancelled booking."""
    known = {"Booking_ID": name, "date of reservation": arrival, "lead time": str(lead_time)}
    return [known.get(column, "Canceled" if column == "booking status" else "1") for column in CSV_HEADER]


def test_a_day_knows_the_bookings_made_by_then_and_the_outcomes_of_arrivals_before_it() -> None:
    rows = [
        line("past", "5/31/2018", 3),
        line("today", "6/1/2018", 3),
        line("ahead", "2018-07-01", 30),
        line("not made yet", "7/2/2018", 30),
        line("no such date", "2/30/2018", 3),
    ]
    known = {row[0]: row[-1] for row in as_known_on(rows, DAY)}
    assert known == {"past": "Canceled", "today": "", "ahead": ""}
    assert rows[1][-1] == "Canceled"


def test_days_are_the_first_of_each_month() -> None:
    assert months(date(2018, 5, 2), date(2018, 7, 1)) == [date(2018, 6, 1), date(2018, 7, 1)]


def test_the_table_counts_all_months_together() -> None:
    months_seen = pd.DataFrame(
        {
            "as of": [DAY, date(2018, 7, 1)],
            "open": [1000, 2000],
            "announced": [0.9, 0.8],
            "ROC AUC": [0.87, 0.84],
            "uncorrected": [200.0, 500.0],
            "expected": [300.0, 500.0],
            "actual": [300, 700],
            "dates": [30, 10],
            "inside": [24, 6],
            "decision": ["promoted", "tie"],
        }
    )
    lines = as_markdown(months_seen).splitlines()
    assert lines[2] == "| 2018-06-01 | 1,000 | 0.870 (0.900) | 300 (200) | 300 | 80% of 30 | promoted |"
    assert (
        "| +0.005 on average, 0.035 without signs | 800 (700), -20.0% | 1,000 | 75% of 40 | 1 promoted |" in lines[-1]
    )


def test_another_file_and_no_month_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n", encoding="utf-8")
    for more, said in (
        (["--first", "2018-05-01", "--last", "2018-06-01"], "not the header of Booking.csv"),
        (["--first", "2018-05-02", "--last", "2018-05-30"], "no month begins between"),
    ):
        with pytest.raises(SystemExit):
            main(["--booking-csv", str(file), *more])
        assert said in capsys.readouterr().err
    lines = [CSV_HEADER, line("one", "5/31/2018", 3), [], line("two", "6/2/2018", 3)[:-3]]
    file.write_text("\n".join(map(",".join, lines)), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["--booking-csv", str(file), "--first", "2018-05-01", "--last", "2018-06-01"])
    assert "no booking arrives on 2018-06-01 or later" in capsys.readouterr().err
