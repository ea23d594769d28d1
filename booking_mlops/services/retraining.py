"""Starts a retraining on an alarm: once for each alarm, and says what it waits for afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.tables import MONITORING, REJECTED
from booking_mlops.core.drift.findings import Finding, Levels
from booking_mlops.services.drift import Baseline
from booking_mlops.services.promotions import ROLLED_BACK, PromotionHistory
from booking_mlops.session import Session

if TYPE_CHECKING:
    from pyspark.sql import Row

RETRAIN = "retrain"
"""The check of the table `monitoring` under which a retraining is written down."""
_NOTHING = Levels(math.inf, math.inf)


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


def retrain_once(session: Session, job: str, alarms: Iterable[Finding], baseline: Baseline | None) -> Retraining | None:
    """Start the job, unless it was started for these alarms before; return what was done, or what is waited for.

    An alarm is the same one until a training has seen the bookings and decided: then there is another champion, or the
    champion is confirmed and compared with what that training knew. Bad lines of a file are no reason to train.
    """
    subjects = {(one.check, one.subject) for one in alarms if one.subject != REJECTED.name}
    if not subjects:
        return None
    if session.workspace is None:
        return Retraining(job, f"{job} was not started: there is no workspace here; run model-train")
    started, alarmed = _started(session, job, baseline)
    if baseline is not None and started is not None and subjects <= alarmed:
        return Retraining(job, _waits_for(session, job, started, baseline), int(started["value"]))
    run_id = session.workspace.start_job(job)
    if run_id is None:
        return Retraining(job, f"{job} is running already")
    return Retraining(job, f"run {run_id} of {job} was started", run_id)


def _started(session: Session, job: str, baseline: Baseline | None) -> tuple[Row | None, set[tuple[str, str]]]:
    """Return the last start of the job since the baseline, and what was an alarm then and while it was waited for."""
    tables = session.tables
    if baseline is None or not tables.exists(MONITORING.name):
        return None, set()
    tables.ensure(MONITORING)
    same = f"model_version = {baseline.champion} AND reference_version = {baseline.version} AND level = 'alarm'"
    rows = tables.read(MONITORING.name).where(same).select("checked_on", "check_name", "subject", "value")
    found = rows.orderBy("checked_on").collect()
    starts = [row for row in found if (row["check_name"], row["subject"]) == (RETRAIN, job) and row["value"]]
    days = {row["checked_on"] for row in starts}
    alarmed = {(row["check_name"], row["subject"]) for row in found if row["checked_on"] in days}
    # The days on which it was waited for name the same run; the first of them is when it was started.
    return next((row for row in starts if row["value"] == starts[-1]["value"]), None), alarmed


def _waits_for(session: Session, job: str, started: Row, baseline: Baseline) -> str:
    """Say what a start of the job came to so far."""
    run = f"run {started['value']:.0f} of {job} was started on {started['checked_on']} for this alarm"
    decision = next((one for one in PromotionHistory(session).rows() if _came_of(started, one, baseline)), None)
    if decision is None:
        return f"{run}; waiting for its decision"
    said = f"version {decision['challenger_version']} was {decision['decision']}: {decision['reason']}"
    return f"{run}; {said}; nothing more is started for it: train with other settings, or roll back"


def _came_of(started: Row, decision: Row, baseline: Baseline) -> bool:
    """Say whether a decision is one of a training after the start: of that day, or later."""
    newer = int(decision["challenger_version"]) > baseline.version and decision["decision"] != ROLLED_BACK
    later: bool = decision["decided_at"].date() >= started["checked_on"]
    return newer and later
