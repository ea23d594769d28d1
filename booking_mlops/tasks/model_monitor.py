"""`model-monitor`: has the world moved away from the champion, and is it still as good as it was."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import TYPE_CHECKING

import pandas as pd

from booking_mlops.config.model import ModelMonitorConfig
from booking_mlops.core.bookings.schema import (
    BOOKINGS,
    FEATURE_KEY,
    FEATURE_TABLE,
    FEATURES,
    LABEL,
    LABELS,
    MONITORING,
    PREDICTIONS,
    REJECTED,
)
from booking_mlops.core.drift.measures import (
    Finding,
    Level,
    Levels,
    Window,
    capped,
    domain_auc,
    live_finding,
    psi,
    quality_findings,
    worst,
)
from booking_mlops.core.model.split import holdout_mask
from booking_mlops.core.reports import monitoring_report
from booking_mlops.errors import DriftAlarm
from booking_mlops.io.registry import FEATURES_VERSION_TAG, Version
from booking_mlops.io.tables import spark_errors, to_pandas
from booking_mlops.io.workspace import Workspace, in_workspace
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.drift import NO_LIKE_SEASON, Sides, at_most, drift_findings, known_bookings, read_sides

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

REPORT_FILE = "monitoring.html"
RETRAIN = "retrain"


@dataclass(frozen=True)
class ModelMonitorResult(Result):
    """Everything that was found, the worst of it, and what was done about it."""

    level: Level
    findings: tuple[Finding, ...]
    window: Window
    champion_version: int | None
    run_id: str
    retrained: str

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        judged = [finding for finding in self.findings if finding.level != "too few"]
        lines = [
            ("level", f"{self.level}: {len(judged)} of {len(self.findings)} checks had enough rows to be judged"),
            ("window", f"arrivals {self.window.first} to {self.window.last}"),
        ]
        noticed = [finding for finding in judged if finding.level in ("warn", "alarm")]
        for finding in sorted(noticed, key=lambda finding: finding.level):
            lines.append(
                (finding.level, f"{finding.check}: {finding.subject}: {finding.statistic} {finding.value:.3f}")
            )
        if self.retrained:
            lines.append((RETRAIN, self.retrained))
        return [*lines, ("report", f"{REPORT_FILE} of run {self.run_id}")]


class ModelMonitor(Task[ModelMonitorConfig, ModelMonitorResult]):
    """Measures, writes down, draws, and only then raises the alarm. Works before there is a model or a prediction."""

    name = "model-monitor"
    config_type = ModelMonitorConfig
    help = "Check drift, data quality and the champion's live metrics; fails on an alarm, and can start a retraining."

    def run(self) -> ModelMonitorResult:
        """See `Task`. Raises: DriftAlarm after everything is written, when `fail_on_alarm`."""
        champion = self.registry.champion()
        names = tuple(self.registry.input_schema(champion)) if champion else FEATURES
        sides = read_sides(self, self.config.drift, known_bookings(self, champion) if champion else None, names)
        self.log.info("comparing %s", sides.about)
        findings = drift_findings(sides, self.config.drift, names)
        findings += self._domain(sides, names)
        findings += self._quality(sides, names)
        findings += self._score_drift(sides)
        live, weeks = self._live_metrics(sides.window, champion)
        findings += live
        level = worst(findings)
        retrained = self._retrain(level)
        run_id = self._record(findings, retrained, sides, names, weeks, champion)
        result = ModelMonitorResult(
            level, tuple(findings), sides.window, champion.number if champion else None, run_id, retrained
        )
        self.log.info("level: %s", level)
        if level == "alarm" and self.config.fail_on_alarm:
            alarms = [finding for finding in findings if finding.level == "alarm"]
            what = "; ".join(f"{one.check}: {one.subject}: {one.statistic} {one.value:.3f}" for one in alarms[:5])
            raise DriftAlarm(
                f"{len(alarms)} of {len(findings)} checks are an alarm: {what}; see {REPORT_FILE} of run {run_id}"
                + (f"; {retrained}" if retrained else "")
            )
        return result

    def _domain(self, sides: Sides, names: Sequence[str]) -> list[Finding]:
        levels, rows = self.config.classifier, (len(sides.current), len(sides.reference))
        enough = min(rows) >= self.config.drift.min_rows
        value = float("nan")
        if enough:
            value = domain_auc(sides.reference, sides.current, names, FEATURE_KEY, seed=self.config.seed)
        found = Finding(
            "domain classifier", "all features", "ROC AUC", value, levels.of(value), levels, *rows, sides.about
        )
        return [found] if sides.same_season else capped([found], "warn", NO_LIKE_SEASON)

    def _quality(self, sides: Sides, names: Sequence[str]) -> list[Finding]:
        levels = self.config.quality
        found = quality_findings(sides.reference, sides.current, names, self.config.ranges, levels)
        if self.lake.exists(REJECTED.name) and self.lake.exists(BOOKINGS.name):
            rejected = self.lake.full_name(REJECTED.name)
            newest = f"(SELECT max_by(source_fingerprint, rejected_at) FROM {rejected})"
            bad = self.lake.read(REJECTED.name).where(f"source_fingerprint = {newest}").count()
            total = bad + self.lake.read(BOOKINGS.name).count()
            share = bad / total if total else float("nan")
            found.append(
                Finding("data quality", REJECTED.name, "share", share, levels.of(share), levels, total, 0,
                        "lines of the newest file that had any")
            )  # fmt: skip
        return found

    def _newest_predictions(self) -> DataFrame | None:
        """The predictions of the newest scoring day, with arrival and key; None when there are none yet."""
        from pyspark.sql import functions as F

        if not self.lake.exists(PREDICTIONS.name):
            return None
        predictions = self.lake.read(PREDICTIONS.name)
        newest = predictions.agg(F.max("scored_on")).head()
        if newest is None or newest[0] is None:
            return None
        described = self.lake.read(FEATURE_TABLE.name).select("booking_id", FEATURE_KEY, "arrival_date")
        scores = predictions.where(f"scored_on = DATE'{newest[0]}'").select("booking_id", "cancellation_probability")
        return scores.join(described, "booking_id")

    def _score_drift(self, sides: Sides) -> list[Finding]:
        """The champion's scores of the newest window against those of the bookings it knew, on one scoring day."""
        config, score = self.config.drift, "cancellation_probability"
        scored = self._newest_predictions()
        if scored is None:
            nan = float("nan")
            return [Finding("score drift", score, "PSI", nan, "too few", config.levels, 0, 0, "no predictions yet")]
        current = at_most(scored.where(sides.window.sql("arrival_date")), config.max_rows)[score]
        known = self.spark.createDataFrame(sides.reference[["booking_id"]])
        reference = to_pandas(scored.join(known, "booking_id").select(score))[score]
        enough = min(len(current), len(reference)) >= config.min_rows
        value = psi(reference, current, config.bins) if enough else float("nan")
        found = Finding("score drift", score, "PSI", value, config.levels.of(value), config.levels, len(current),
                        len(reference), sides.about)  # fmt: skip
        return [found] if sides.same_season else capped([found], "warn", NO_LIKE_SEASON)

    def _live_metrics(self, window: Window, champion: Version | None) -> tuple[list[Finding], pd.DataFrame]:
        """The champion's metrics on bookings it was not trained on: for the newest window, and week by week."""
        config = self.config.live
        weeks = pd.DataFrame(columns=["week", "rows", "roc_auc", "predicted", "cancelled"])
        scored = self._newest_predictions()
        if scored is None or champion is None or not self.lake.exists(LABELS.name):
            why = "no predictions yet" if champion else "no champion yet"
            nothing = Finding(
                "live metrics", "newest window", "ROC AUC", float("nan"), "too few", config.levels, 0, 0, why
            )
            return [nothing], weeks
        since = min(window.last - timedelta(weeks=config.weeks), window.first)
        labels = self.lake.read(LABELS.name).select("booking_id", LABEL)
        frame = at_most(
            scored.where(f"arrival_date > DATE'{since}'").join(labels, "booking_id"), self.config.drift.max_rows
        )
        frame = frame[self._never_trained_on(frame, champion)]
        expected = self.registry.metric(champion.run_id, "holdout_roc_auc")
        arrival = pd.to_datetime(frame["arrival_date"])

        def judged(subject: str, part: pd.DataFrame, levels: Levels) -> Finding:
            scores = part["cancellation_probability"].to_numpy(float)
            return live_finding(subject, part[LABEL].to_numpy(int), scores, expected, levels, config.min_rows)

        findings = [judged("newest window", frame[arrival >= pd.Timestamp(window.first)], config.levels)]
        rows = []
        for week, part in frame.groupby(arrival.dt.to_period("W").dt.start_time):
            found = judged(f"week of {week:%Y-%m-%d}", part, config.levels)
            # Of twelve weeks one does badly by chance; the newest window is what is judged.
            findings += capped([found], "ok", "shown, not judged")
            rows.append((week, len(part), found.value, part["cancellation_probability"].mean(), part[LABEL].mean()))
        return findings, pd.DataFrame(rows, columns=list(weeks.columns))

    def _never_trained_on(self, frame: pd.DataFrame, champion: Version) -> pd.Series:
        """Holdout, or not there yet when the champion was trained."""
        holdout = pd.Series(
            holdout_mask(frame[FEATURE_KEY].to_numpy(), self.config.holdout.fraction, self.config.holdout.salt),
            index=frame.index,
        )
        version = champion.tags.get(FEATURES_VERSION_TAG)
        if version is None or int(version) == self.lake.version(FEATURE_TABLE.name):
            return holdout
        try:
            trained = self.lake.read(FEATURE_TABLE.name, int(version)).select("booking_id")
            mine = self.spark.createDataFrame(frame[["booking_id"]])
            new = set(to_pandas(mine.join(trained, "booking_id", "left_anti"))["booking_id"])
        except spark_errors():
            return holdout
        return holdout | frame["booking_id"].isin(new)

    def _retrain(self, level: Level) -> str:
        """Start the configured job on an alarm, once a day. Returns what was done, '' when nothing was called for."""
        job = self.config.retrain_job
        if level != "alarm" or job is None:
            return ""
        if not in_workspace(os.environ):
            return f"{job} was not started: there is no workspace here; run model-train"
        today = self.clock().astimezone(timezone.utc).date()
        if self.lake.exists(MONITORING.name):
            done = (
                self.lake.read(MONITORING.name).where(f"checked_on = DATE'{today}' AND check_name = '{RETRAIN}'").head()
            )
            if done is not None:
                return str(done["detail"])
        run_id = Workspace().start_job(job)
        return f"run {run_id} of {job} was started" if run_id else f"{job} is running already"

    def _record(
        self,
        findings: Sequence[Finding],
        retrained: str,
        sides: Sides,
        names: Sequence[str],
        weeks: pd.DataFrame,
        champion: Version | None,
    ) -> str:
        """The page, as an artifact of a run; and the day's rows of the table."""
        now = self.clock().astimezone(timezone.utc)
        rows = [*findings]
        if retrained:
            nothing = Levels(math.inf, math.inf)
            rows.append(
                Finding(RETRAIN, str(self.config.retrain_job), "", float("nan"), "alarm", nothing, 0, 0, retrained)
            )
        page = monitoring_report.render(
            title=f"{self.env.model_name}: monitoring of {now:%Y-%m-%d}",
            level=worst(findings),
            about=sides.about,
            retrained=retrained,
            findings=findings,
            plots=monitoring_report.pictures(findings, sides.reference, sides.current, names, weeks),
            facts=self._facts(champion, sides),
        )
        tags = {"environment": self.env.environment, "level": worst(findings)}
        with self.registry.run(f"{self.env.environment} model-monitor", tags) as run_id:
            measured = {f"{one.check} {one.subject}".replace(" ", "_"): one.value for one in findings}
            self.registry.log_metrics(measured, {})
            self.registry.log_files({REPORT_FILE: page})
        self.ensure_table(MONITORING)
        version = self.lake.version(FEATURE_TABLE.name)
        self.lake.replace_rows(
            MONITORING.name,
            [
                {
                    "checked_on": now.date(),
                    "check_name": one.check,
                    "subject": one.subject,
                    "statistic": one.statistic,
                    "value": None if math.isnan(one.value) else one.value,
                    "level": one.level,
                    "warn_from": one.levels.warn,
                    "alarm_from": one.levels.alarm,
                    "rows": one.rows,
                    "reference_rows": one.reference_rows,
                    "detail": one.detail,
                    "model_version": champion.number if champion else None,
                    "features_version": version,
                    "checked_at": now,
                }
                for one in rows
            ],
            where=f"checked_on = DATE'{now.date()}'",
        )
        return run_id

    def _facts(self, champion: Version | None, sides: Sides) -> Mapping[str, str]:
        drift = self.config.drift
        return {
            "Champion": f"{champion.name} version {champion.number}" if champion else "none yet",
            "Newest bookings": f"{len(sides.current):,}, {sides.about}",
            "Reference": f"{len(sides.reference):,} bookings, sampled above {drift.max_rows:,}",
            "Levels of PSI": f"warn from {drift.levels.warn:g}, alarm from {drift.levels.alarm:g}",
            "Levels of the domain classifier": f"warn from {self.config.classifier.warn:g}, "
            f"alarm from {self.config.classifier.alarm:g}",
            "Not judged": f"fewer than {drift.min_rows:,} rows on a side; {self.config.live.min_rows} for live metrics",
        }
