"""`model-monitor`: have bookings moved away from what the champion was trained on, and is it as good as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from booking_mlops.config.checks import require, require_levels
from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.bookings.schema import FEATURE_KEY, LABEL
from booking_mlops.core.bookings.tables import BOOKINGS, FEATURE_TABLE, MONITORING, PREDICTIONS, REJECTED
from booking_mlops.core.drift.findings import Finding, Level, Levels, capped, worst_level
from booking_mlops.core.drift.measures import domain_auc, live_finding, psi, quality_findings
from booking_mlops.core.drift.seasons import Window
from booking_mlops.core.reports import monitoring_report
from booking_mlops.errors import DriftAlarm
from booking_mlops.io.registry import Version
from booking_mlops.io.tables import to_pandas
from booking_mlops.services.backtest import AS_OF_ROC_AUC
from booking_mlops.services.drift import (
    OTHER_SEASONS_ONLY,
    DriftConfig,
    DriftSample,
    drift_findings,
    load_reference,
    random_sample,
    read_drift_sample,
)
from booking_mlops.services.live_scores import LAST_SCORE, score_before, scores_while_open
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

REPORT_FILE = "monitoring.html"
RETRAIN = "retrain"
NEWEST = "newest window"
SHOWN_ONLY = "shown, not judged"


@dataclass(frozen=True)
class LiveMetrics:
    """The scores that were given while a booking was open against its outcome, for arrivals of the last `weeks`.

    `levels` are of the drop in ROC AUC below what the champion's training announced; fewer than `min_rows` are not
    judged. `days_before` are days before arrival: the last score given at least so early is looked at too.
    """

    weeks: int = 12
    days_before: tuple[int, ...] = (7, 30, 90)
    min_rows: int = 50
    levels: Levels = field(default_factory=lambda: Levels(warn=0.03, alarm=0.08))

    def __post_init__(self) -> None:
        require(self.weeks > 0 and self.min_rows > 1, "live: weeks must be above 0 and min_rows above 1")
        require(min(self.days_before, default=1) > 0, "live.days_before: must be above 0")
        require_levels("live.levels", self.levels)


@dataclass(frozen=True)
class ModelMonitorConfig:
    """`model-monitor`: what is compared, from where on it is a warning or an alarm, and what an alarm does.

    `classifier` holds the levels of the domain classifier's ROC AUC, `quality` those of the share of bad values.
    An alarm makes the task fail when `fail_on_alarm`, and starts the job `retrain_job` when one is named.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"ranges": "env.ranges", "holdout": ""}

    env: EnvConfig
    drift: DriftConfig = field(default_factory=DriftConfig)
    classifier: Levels = field(default_factory=lambda: Levels(warn=0.75, alarm=0.9))
    quality: Levels = field(default_factory=lambda: Levels(warn=0.005, alarm=0.05))
    live: LiveMetrics = field(default_factory=LiveMetrics)
    seed: int = 17
    fail_on_alarm: bool = True
    retrain_job: str | None = None

    def __post_init__(self) -> None:
        require_levels("classifier", self.classifier)
        require_levels("quality", self.quality)


@dataclass(frozen=True)
class ModelMonitorResult(Result):
    """Every finding, the worst level, and what was done about it."""

    level: Level
    findings: tuple[Finding, ...]
    window: Window
    champion_version: int | None
    run_id: str
    retrained: str

    def summary(self) -> list[tuple[str, str]]:
        """Return the level, the window, each warning and alarm, and where the report is."""
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
    """Measures, writes the findings down, draws them, and only then raises the alarm.

    It works before there is a model or a prediction.
    """

    name = "model-monitor"
    config_type = ModelMonitorConfig
    help = "Check drift, data quality and the champion's live metrics; fails on an alarm, and can start a retraining."

    def run(self) -> ModelMonitorResult:
        """Compare the newest bookings with the champion's reference sample, and its scores with the labels.

        Raises: MissingTable; RegistryError; DriftAlarm after everything is written, when `fail_on_alarm`.
        """
        registry, config = self.session.registry, self.config
        champion = registry.champion()
        names = tuple(registry.input_schema(champion)) if champion else DEFAULT_FEATURES
        reference = load_reference(registry, champion) if champion else None
        sample = read_drift_sample(self.session.tables, config.drift, reference, self.session.as_of, names)
        self.log.info("comparing %s", sample.description)
        findings = drift_findings(sample, config.drift, names)
        findings += self._domain(sample, names)
        findings += self._quality(sample, names)
        findings += self._score_drift(sample)
        live, weeks = self._live_metrics(sample.window, champion)
        findings += live
        level = worst_level(findings)
        retrained = self._retrain(level)
        run_id = self._write_report(findings, retrained, sample, names, weeks, champion)
        self._write_findings(findings, retrained, champion)
        self.log.info("level: %s", level)
        if level == "alarm" and config.fail_on_alarm:
            alarms = [finding for finding in findings if finding.level == "alarm"]
            what = "; ".join(f"{one.check}: {one.subject}: {one.statistic} {one.value:.3f}" for one in alarms[:5])
            raise DriftAlarm(
                f"{len(alarms)} of {len(findings)} checks are an alarm: {what}; see {REPORT_FILE} of run {run_id}"
                + (f"; {retrained}" if retrained else "")
            )
        version = champion.number if champion else None
        return ModelMonitorResult(level, tuple(findings), sample.window, version, run_id, retrained)

    def _domain(self, sample: DriftSample, names: Sequence[str]) -> list[Finding]:
        levels, rows = self.config.classifier, (len(sample.current), len(sample.reference))
        enough = min(rows) >= self.config.drift.min_rows
        value = float("nan")
        if enough:
            value = domain_auc(sample.reference, sample.current, names, FEATURE_KEY, seed=self.config.seed)
        found = Finding(
            "domain classifier", "all features", "ROC AUC", value, levels.of(value), levels, *rows, sample.description
        )
        return [found] if sample.same_season else capped([found], "warn", OTHER_SEASONS_ONLY)

    def _quality(self, sample: DriftSample, names: Sequence[str]) -> list[Finding]:
        levels, tables = self.config.quality, self.session.tables
        found = quality_findings(sample.reference, sample.current, names, self.session.env.all_ranges, levels)
        if tables.exists(REJECTED.name) and tables.exists(BOOKINGS.name):
            rejected = tables.full_name(REJECTED.name)
            newest = f"(SELECT max_by(source_fingerprint, rejected_at) FROM {rejected})"
            bad = tables.read(REJECTED.name).where(f"source_fingerprint = {newest}").count()
            total = bad + tables.read(BOOKINGS.name).count()
            share = bad / total if total else float("nan")
            found.append(
                Finding("data quality", REJECTED.name, "share", share, levels.of(share), levels, total, 0,
                        "lines of the newest file that had any")
            )  # fmt: skip
        return found

    def _newest_predictions(self) -> DataFrame | None:
        """Return the predictions of the newest scoring day, with arrival and key; None when there are none yet."""
        from pyspark.sql import functions as F

        tables = self.session.tables
        if not tables.exists(PREDICTIONS.name):
            return None
        predictions = tables.read(PREDICTIONS.name)
        newest = predictions.agg(F.max("scored_on")).head()
        if newest is None or newest[0] is None:
            return None
        described = tables.read(FEATURE_TABLE.name).select("booking_id", FEATURE_KEY, "arrival_date")
        scores = predictions.where(f"scored_on = DATE'{newest[0]}'").select("booking_id", "cancellation_probability")
        return scores.join(described, "booking_id")

    def _score_drift(self, sample: DriftSample) -> list[Finding]:
        """Compare the champion's scores of the newest window with those of the reference sample, on one scoring day."""
        config, score = self.config.drift, "cancellation_probability"
        scored = self._newest_predictions()
        if scored is None:
            nan = float("nan")
            return [Finding("score drift", score, "PSI", nan, "too few", config.levels, 0, 0, "no predictions yet")]
        current = random_sample(scored.where(sample.window.sql("arrival_date")), config.max_rows)[score]
        known = self.session.spark.createDataFrame(sample.reference[["booking_id"]])
        reference = to_pandas(scored.join(known, "booking_id").select(score))[score]
        enough = min(len(current), len(reference)) >= config.min_rows
        value = psi(reference, current, config.bins) if enough else float("nan")
        found = Finding("score drift", score, "PSI", value, config.levels.of(value), config.levels, len(current),
                        len(reference), sample.description)  # fmt: skip
        return [found] if sample.same_season else capped([found], "warn", OTHER_SEASONS_ONLY)

    def _live_metrics(self, window: Window, champion: Version | None) -> tuple[list[Finding], pd.DataFrame]:
        """Return how the scores given while a booking was open did: in the newest window, by week, by days before."""
        config, tables = self.config.live, self.session.tables
        weeks = pd.DataFrame(columns=["week", "rows", "roc_auc", "predicted", "cancelled"])
        since = min(window.last - timedelta(weeks=config.weeks), window.first)
        rows = None if champion is None else scores_while_open(tables, since, self.session.as_of, config.days_before)
        frame = pd.DataFrame() if rows is None else random_sample(rows, self.config.drift.max_rows)
        if champion is None or frame.empty:
            why = "no booking that was scored while it was open has an outcome yet" if champion else "no champion yet"
            nan = float("nan")
            return [Finding("live metrics", NEWEST, "ROC AUC", nan, "too few", config.levels, 0, 0, why)], weeks
        expected = self._announced(champion)
        arrival = pd.to_datetime(frame["arrival_date"])

        def judged(subject: str, part: pd.DataFrame, scores: str) -> Finding:
            labels, probabilities = part[LABEL].to_numpy(int), part[scores].to_numpy(float)
            return live_finding(subject, labels, probabilities, expected, config.levels, config.min_rows)

        findings = [judged(NEWEST, frame[arrival >= pd.Timestamp(window.first)], LAST_SCORE)]
        for days in config.days_before:
            early = frame[frame[score_before(days)].notna()]
            found = judged(f"scored {days} or more days before arrival", early, score_before(days))
            findings += capped([found], "ok", SHOWN_ONLY)
        shown = []
        for week, part in frame.groupby(arrival.dt.to_period("W").dt.start_time):
            found = judged(f"week of {week:%Y-%m-%d}", part, LAST_SCORE)
            # One week in twelve does badly by chance, so only the newest window is judged.
            findings += capped([found], "ok", SHOWN_ONLY)
            shown.append((week, len(part), found.value, part[LAST_SCORE].mean(), part[LABEL].mean()))
        return findings, pd.DataFrame(shown, columns=list(weeks.columns))

    def _announced(self, champion: Version) -> float:
        """Return the ROC AUC that the champion's training announced for live use: by its backtest, else its holdout."""
        registry = self.session.registry
        as_of = registry.metric(champion.run_id, AS_OF_ROC_AUC)
        return registry.metric(champion.run_id, "holdout_roc_auc") if math.isnan(as_of) else as_of

    def _retrain(self, level: Level) -> str:
        """Start the configured job on an alarm, once a day. Return what was done, '' when there is nothing to do."""
        job = self.config.retrain_job
        if level != "alarm" or job is None:
            return ""
        workspace = self.session.workspace
        if workspace is None:
            return f"{job} was not started: there is no workspace here; run model-train"
        tables = self.session.tables
        if tables.exists(MONITORING.name):
            today = f"checked_on = DATE'{self._now.date()}' AND check_name = '{RETRAIN}'"
            done = tables.read(MONITORING.name).where(today).head()
            if done is not None:
                return str(done["detail"])
        run_id = workspace.start_job(job)
        return f"run {run_id} of {job} was started" if run_id else f"{job} is running already"

    def _write_report(
        self,
        findings: Sequence[Finding],
        retrained: str,
        sample: DriftSample,
        names: Sequence[str],
        weeks: pd.DataFrame,
        champion: Version | None,
    ) -> str:
        """Write the page as an artifact of a run; return the run's id."""
        env, registry = self.session.env, self.session.registry
        page = monitoring_report.render(
            title=f"{env.model_name}: monitoring of {self._now:%Y-%m-%d}",
            level=worst_level(findings),
            about=sample.description,
            retrained=retrained,
            findings=findings,
            plots=monitoring_report.draw_plots(findings, sample.reference, sample.current, names, weeks),
            facts=self._facts(champion, sample),
        )
        tags = {"environment": env.environment, "level": worst_level(findings)}
        with registry.run(f"{env.environment} model-monitor", tags) as run_id:
            measured = {f"{one.check} {one.subject}".replace(" ", "_"): one.value for one in findings}
            registry.log_metrics(measured, {})
            registry.log_files({REPORT_FILE: page})
        return run_id

    def _write_findings(self, findings: Sequence[Finding], retrained: str, champion: Version | None) -> None:
        """Replace the day's rows of `monitoring`; a retraining is a row too."""
        tables, now = self.session.tables, self._now
        rows = [*findings]
        if retrained:
            nothing = Levels(math.inf, math.inf)
            rows.append(
                Finding(RETRAIN, str(self.config.retrain_job), "", float("nan"), "alarm", nothing, 0, 0, retrained)
            )
        tables.ensure(MONITORING)
        version = tables.version(FEATURE_TABLE.name)
        described = [
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
        ]
        tables.replace_rows(MONITORING.name, described, where=f"checked_on = DATE'{now.date()}'")

    @property
    def _now(self) -> datetime:
        return self.session.clock().astimezone(timezone.utc)

    def _facts(self, champion: Version | None, sample: DriftSample) -> Mapping[str, str]:
        drift = self.config.drift
        return {
            "Champion": f"{champion.name} version {champion.number}" if champion else "none yet",
            "Newest bookings": f"{len(sample.current):,}, {sample.description}",
            "Reference": f"{len(sample.reference):,} bookings, sampled above {drift.max_rows:,}",
            "Levels of PSI": f"warn from {drift.levels.warn:g}, alarm from {drift.levels.alarm:g}",
            "Levels of the domain classifier": f"warn from {self.config.classifier.warn:g}, "
            f"alarm from {self.config.classifier.alarm:g}",
            "Not judged": f"fewer than {drift.min_rows:,} rows on a side; {self.config.live.min_rows} for live metrics",
        }
