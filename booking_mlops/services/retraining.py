"""Starts a retraining on an alarm: once for each alarm, and says what it waits for afterwards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timezone
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.tables import MONITORING, REJECTED
from booking_mlops.core.drift.findings import Finding, Levels
from booking_mlops.errors import WorkspaceError
from booking_mlops.io.registry import Version
from booking_mlops.io.tables import Tables
from booking_mlops.services.drift import Baseline
from booking_mlops.services.promotions import ROLLED_BACK, WAITING, PromotionHistory, approval_command
from booking_mlops.session import Session

if TYPE_CHECKING:
    from pyspark.sql import Row

RETRAIN = "retrain"
"""The check of the table `monitoring` under which a retraining is written down."""
_NOTHING = Levels(math.inf, math.inf)
Subject = tuple[str, str]
"""Check and subject of a finding."""


@dataclass(frozen=True)
class Retraining:
    """What was done about an alarm, in words; `run_id` is that of the job's run that was started for it."""

    job: str
    words: str
    run_id: int | None = None

    @property
    def finding(self) -> Finding:
        """The row of the table `monitoring`."""
        value = math.nan if self.run_id is None else float(self.run_id)
        return Finding(RETRAIN, self.job, "", value, "alarm", _NOTHING, 0, 0, self.words)


@dataclass(frozen=True)
class _Started:
    """The last run that was started for alarms that have not ended: when, and which alarms the newest check found."""

    run_id: int
    on: date
    alarms: frozenset[Subject]


def retrain_once(
    session: Session, job: str, alarms: Iterable[Finding], champion: Version | None, baseline: Baseline | None
) -> Retraining | None:
    """Start the job, unless it was started for these alarms before; return what was done, or what is waited for.

    An alarm is the same one until a day without it, or until a training has seen the bookings and decided: then there
    is another champion, or the champion is confirmed and compared with what that training knew. Bad lines of a file are
    no reason to train. A run that failed is started again.
    """
    subjects = {(one.check, one.subject) for one in alarms if one.subject != REJECTED.name}
    if not subjects:
        return None
    if session.workspace is None:
        return Retraining(job, f"{job} was not started: there is no workspace here; run model-train")
    started = _started(session, job, champion, baseline)
    last = started.run_id if started else None
    try:
        if started is not None and subjects <= started.alarms and not session.workspace.run_failed(started.run_id):
            return Retraining(job, _waits_for(session, job, started, champion, baseline), started.run_id)
        run_id = session.workspace.start_job(job)
    except WorkspaceError as error:
        return Retraining(job, f"{job} was not started: {error}", last)
    if run_id is None:
        return Retraining(job, f"{job} is running already", last)
    return Retraining(job, f"run {run_id} of {job} was started", run_id)


def has_alarm(session: Session, champion: Version, baseline: Baseline) -> bool:
    """Say whether model-monitor has found an alarm by what is compared at present."""
    tables = session.tables
    if not tables.exists(MONITORING.name):
        return False
    tables.ensure(MONITORING)
    same = f"model_version = {champion.number} AND reference_version = {baseline.version} AND level = 'alarm'"
    return not tables.read(MONITORING.name).where(same).isEmpty()


def _started(session: Session, job: str, champion: Version | None, baseline: Baseline | None) -> _Started | None:
    """Return the run that was started, or waited for, when the newest check was written; None when there was none."""
    tables = session.tables
    if not tables.exists(MONITORING.name):
        return None
    tables.ensure(MONITORING)
    rows = tables.read(MONITORING.name).where(f"level = 'alarm' OR checked_on = {_newest(tables)}")
    columns = ("checked_on", "check_name", "subject", "value", "level", "model_version", "reference_version")
    by_day = itertools.groupby(
        rows.select(*columns).orderBy("checked_on", ascending=False).collect(), lambda row: row["checked_on"]
    )
    days = [(day, list(checks)) for day, checks in by_day]
    if not days:
        return None
    on, newest = days[0]
    compared = (champion and champion.number, baseline and baseline.version)
    run = _run_of(newest, job)
    if run is None or any((row["model_version"], row["reference_version"]) != compared for row in newest):
        return None
    # The days on which it was waited for name the same run; the first of them is when it was started.
    for day, _ in itertools.takewhile(lambda one: _run_of(one[1], job) == run, days):
        on = day
    alarms = frozenset((row["check_name"], row["subject"]) for row in newest if row["level"] == "alarm")
    return _Started(run, on, alarms)


def _newest(tables: Tables) -> str:
    return f"(SELECT max(checked_on) FROM {tables.full_name(MONITORING.name)})"


def _run_of(checks: Iterable[Row], job: str) -> int | None:
    runs = (row["value"] for row in checks if (row["check_name"], row["subject"]) == (RETRAIN, job))
    run = next(runs, None)
    return None if run is None else int(run)


def _waits_for(
    session: Session, job: str, started: _Started, champion: Version | None, baseline: Baseline | None
) -> str:
    """Say what a start of the job came to so far."""
    run = f"run {started.run_id} of {job} was started on {started.on} for this alarm"
    known = max((one for one in (champion and champion.number, baseline and baseline.version) if one), default=0)
    decision = next((one for one in PromotionHistory(session).rows() if _came_of(started, one, known)), None)
    if decision is None:
        return f"{run}; waiting for its decision"
    number = decision["challenger_version"]
    if decision["decision"] == WAITING:
        return f"{run}; version {number} waits for approval: {approval_command(number)}"
    said = f"version {number} was {decision['decision']}: {decision['reason']}"
    return f"{run}; {said}; nothing more is started for it: train with other settings, or roll back"


def _came_of(started: _Started, decision: Row, known: int) -> bool:
    """Say whether a decision is one of a training after the start: of that day, or later."""
    newer = int(decision["challenger_version"]) > known and decision["decision"] != ROLLED_BACK
    # Spark gives a time in the machine's zone.
    later: bool = decision["decided_at"].astimezone(timezone.utc).date() >= started.on
    return newer and later
