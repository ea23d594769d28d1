"""Replays a file of history through the tasks, day after day as it would have come, and says how the forecasts did.

    python -m devtools.replay --booking-csv path/Booking.csv --first 2018-05-01 --last 2018-12-01

On the first of each month the tasks get the bookings that had been made by then, with the outcomes of the arrivals
before that day; the others are open. A file does not say when a booking was cancelled, so all that were yet to arrive
count as open. It prints a table in Markdown; docs/outlook.md has one.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from booking_mlops.core.bookings.schema import CSV_HEADER, LABEL
from booking_mlops.io.machine import LAKE_VARIABLE
from booking_mlops.io.tables import to_pandas
from booking_mlops.runner import PIPELINE, load_config, make_session, start_logging
from booking_mlops.services.backtest import AS_OF_ROC_AUC
from booking_mlops.session import Session
from booking_mlops.tasks import task_type

ROOT = Path(__file__).resolve().parent.parent
ENV = ROOT / "conf" / "envs" / "local.yml"
_ARRIVAL, _LEAD, _STATUS = (CSV_HEADER.index(name) for name in ("date of reservation", "lead time", "booking status"))
# A hotel's first months are few bookings.
_EARLY_MONTHS = ("gates.min_holdout_rows=500",)


def arrival_of(row: Sequence[str]) -> date | None:
    """Return a line's date of arrival; None when there is no such date."""
    for spelling in ("%m/%d/%Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(row[_ARRIVAL], spelling).date()
        except ValueError:
            continue
    return None


def is_readable(row: Sequence[str]) -> bool:
    """Say whether a line has its fields, a date of arrival and a lead time; others are left out."""
    return len(row) == len(CSV_HEADER) and arrival_of(row) is not None and row[_LEAD].isdigit()


def as_known_on(rows: Sequence[Sequence[str]], day: date) -> list[list[str]]:
    """Return the bookings that had been made by `day`, without the outcomes of those that were yet to arrive."""
    known = []
    for row in rows:
        arrival = arrival_of(row)
        if arrival is not None and arrival - timedelta(days=int(row[_LEAD])) <= day:
            known.append([*row[:_STATUS], "" if arrival >= day else row[_STATUS], *row[_STATUS + 1 :]])
    return known


def months(first: date, last: date) -> list[date]:
    """Return the first of each month from `first` to `last`, both included."""
    return [stamp.date() for stamp in pd.date_range(first, last, freq="MS")]


class Replay:
    """The tasks on one lake, on one day after the other."""

    def __init__(self, rows: Sequence[Sequence[str]], folder: Path) -> None:
        self._rows, self._file = rows, folder / "Booking.csv"
        self._session: Session | None = None

    def run(self, day: date, keys: Sequence[str] = PIPELINE) -> dict[str, Any]:
        """Run the tasks as of a day; return their results by key."""
        with self._file.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([CSV_HEADER, *as_known_on(self._rows, day)])
        results, session = {}, None
        for key in keys:
            task = task_type(key)
            settings = [f"env.as_of={day}"]
            if key == "setup_data":
                settings += [f"source_csv={str(self._file)!r}", "allow_synthetic_data=false"]
            settings += _EARLY_MONTHS if key == "model_train" else ()
            config = load_config(task, ROOT / "conf" / "tasks" / f"{key}.yml", ENV, settings)
            if session is None:
                running = self._session.spark if self._session else None
                session = make_session(task, config, spark=running, clock=lambda: _noon(day))
            results[key] = task(config, session).run()
        assert session is not None, "there is at least one task"
        self._session = session
        return results

    @property
    def session(self) -> Session:
        """The session of the last day."""
        assert self._session is not None, "nothing was run yet"
        return self._session


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)


def judge(session: Session, days: Sequence[date], results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row for each day: how its scores and its outlook did, by what came."""
    from sklearn.metrics import roc_auc_score

    def read(table: str) -> pd.DataFrame:
        return to_pandas(session.tables.read(table))

    labels = read("labels")[["booking_id", LABEL, "event_date"]]
    scores = read("predictions").query("was_open").merge(labels, on="booking_id")
    outlook = read("outlook").set_index(["as_of", "arrival_date"])
    lines = []
    for day, done in zip(days, results, strict=True):
        given = scores[scores["scored_on"] == day]
        came = given.groupby("event_date")[LABEL].sum()
        said = outlook.loc[day].loc[came.index]
        version = session.registry.version(int(given["model_version"].iloc[0]))
        lines.append(
            {
                "as of": day,
                "open": len(given),
                "announced": session.registry.metric(version.run_id, AS_OF_ROC_AUC),
                "ROC AUC": roc_auc_score(given[LABEL], given["cancellation_probability"]),
                "uncorrected": said["uncorrected_cancellations"].sum(),
                "expected": said["expected_cancellations"].sum(),
                "actual": int(came.sum()),
                "dates": len(came),
                "inside": int(came.between(said["lower_cancellations"], said["upper_cancellations"]).sum()),
                "decision": done["model_train"].decision.outcome,
            }
        )
    return pd.DataFrame(lines)


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table, and a line for all days, as it is in the docs."""
    lines = [
        "| as of | open | ROC AUC (announced) | expected (uncorrected) | actual | dates inside | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for _, row in table.iterrows():
        lines.append(
            f"| {row['as of']} | {row['open']:,} | {row['ROC AUC']:.3f} ({row['announced']:.3f}) "
            f"| {row['expected']:,.0f} ({row['uncorrected']:,.0f}) | {row['actual']:,} "
            f"| {row['inside'] / row['dates']:.0%} of {row['dates']} | {row['decision']} |"
        )
    total, gap = table.sum(numeric_only=True), table["ROC AUC"] - table["announced"]
    lines.append(
        f"| all | {total['open']:,.0f} | {gap.mean():+.3f} on average, {gap.abs().mean():.3f} without signs "
        f"| {total['expected']:,.0f} ({total['uncorrected']:,.0f}), {total['expected'] / total['actual'] - 1:+.1%} "
        f"| {total['actual']:,.0f} | {total['inside'] / total['dates']:.0%} of {total['dates']:,.0f} "
        f"| {(table['decision'] == 'promoted').sum()} promoted |"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Replay a file and print the table."""
    parser = argparse.ArgumentParser(prog="python -m devtools.replay", description=__doc__)
    parser.add_argument("--booking-csv", metavar="FILE", type=Path, required=True)
    parser.add_argument("--first", metavar="DATE", type=date.fromisoformat, required=True)
    parser.add_argument("--last", metavar="DATE", type=date.fromisoformat, required=True)
    arguments = parser.parse_args(argv)
    days = months(arguments.first, arguments.last)
    if not days:
        parser.error(f"no month begins between {arguments.first} and {arguments.last}")
    with arguments.booking_csv.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    if tuple(header) != CSV_HEADER:
        parser.error(f"{arguments.booking_csv}: not the header of Booking.csv")
    rows = [row for row in rows if is_readable(row)]
    last = max(filter(None, map(arrival_of, rows)), default=date.min)
    if days[-1] > last:
        parser.error(f"{arguments.booking_csv}: no booking arrives on {days[-1]} or later, so nothing is open then")
    with tempfile.TemporaryDirectory() as folder:
        os.environ[LAKE_VARIABLE] = str(Path(folder) / "lake")
        start_logging(verbose=False)
        replay = Replay(rows, Path(folder))
        results = [replay.run(day) for day in tqdm(days, desc="months")]
        replay.run(last + timedelta(days=1), PIPELINE[:2])
        print(as_markdown(judge(replay.session, days, results)))


if __name__ == "__main__":
    main()
