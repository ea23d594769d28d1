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
from booking_mlops.core.bookings.tables import (
    BOOKINGS,
    FEATURE_TABLE,
    LABELS,
    MONITORING,
    PREDICTIONS,
    REJECTED,
)
from booking_mlops.core.drift.findings import Finding, Level, Levels, capped, worst_level
from booking_mlops.core.drift.measures import domain_auc, live_finding, psi, quality_findings
from booking_mlops.core.drift.seasons import Window
from booking_mlops.core.reports import monitoring_report
from booking_mlops.errors import DriftAlarm, RegistryError
from booking_mlops.io.registry import FEATURES_VERSION_TAG, Version
from booking_mlops.io.tables import spark_errors, to_pandas
from booking_mlops.services.drift import (
    OTHER_SEASONS_ONLY,
    DriftConfig,
    DriftSample,
    drift_findings,
    load_reference,
    random_sample,
    read_drift_sample,
)
from booking_mlops.services.training_data import Holdout
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

REPORT_FILE = "monitoring.html"
RETRAIN = "retrain"


@dataclass(frozen=True)
class LiveMetrics:
    """The champion against the labels that arrived, on bookings it was not trained on, for the last `weeks`.

    `levels` are of the drop in ROC AUC below the holdout's; weeks with fewer than `min_rows` are not judged.
    """

    weeks: int = 12
    min_rows: int = 50
    levels: Levels = field(default_factory=lambda: Levels(warn=0.03, alarm=0.08))

    def __post_init__(self) -> None:
        require(self.weeks > 0 and self.min_rows > 1, "live: weeks must be above 0 and min_rows above 1")
        require_levels("live.levels", self.levels)


@dataclass(frozen=True)
class ModelMonitorConfig:
    """`model-monitor`: what is compared, from where on it is a warning or an alarm, and what an alarm does.

    `classifier` holds the levels of the domain classifier's ROC AUC, `quality` those of the share of bad values.
    An alarm makes the task fail when `fail_on_alarm`, and starts the job `retrain_job` when one is named. Which
    bookings the champion was not trained on follows from the holdout that is recorded with it.
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
        """Return the champion's metrics on bookings it was not trained on: for the newest window, and week by week."""
        config = self.config.live
        weeks = pd.DataFrame(columns=["week", "rows", "roc_auc", "predicted", "cancelled"])
        scored = self._newest_predictions()
        if scored is None or champion is None or not self.session.tables.exists(LABELS.name):
            why = "no predictions yet" if champion else "no champion yet"
            nothing = Finding(
                "live metrics", "newest window", "ROC AUC", float("nan"), "too few", config.levels, 0, 0, why
            )
            return [nothing], weeks
        since = min(window.last - timedelta(weeks=config.weeks), window.first)
        labels = self.session.tables.read(LABELS.name).select("booking_id", LABEL)
        frame = random_sample(
            scored.where(f"arrival_date > DATE'{since}'").join(labels, "booking_id"), self.config.drift.max_rows
        )
        frame = frame[self._never_trained_on(frame, champion)]
        expected = self.session.registry.metric(champion.run_id, "holdout_roc_auc")
        arrival = pd.to_datetime(frame["arrival_date"])

        def judged(subject: str, part: pd.DataFrame, levels: Levels) -> Finding:
            scores = part["cancellation_probability"].to_numpy(float)
            return live_finding(subject, part[LABEL].to_numpy(int), scores, expected, levels, config.min_rows)

        findings = [judged("newest window", frame[arrival >= pd.Timestamp(window.first)], config.levels)]
        rows = []
        for week, part in frame.groupby(arrival.dt.to_period("W").dt.start_time):
            found = judged(f"week of {week:%Y-%m-%d}", part, config.levels)
            # One week in twelve does badly by chance, so only the newest window is judged.
            findings += capped([found], "ok", "shown, not judged")
            rows.append((week, len(part), found.value, part["cancellation_probability"].mean(), part[LABEL].mean()))
        return findings, pd.DataFrame(rows, columns=list(weeks.columns))

    def _never_trained_on(self, frame: pd.DataFrame, champion: Version) -> pd.Series:
        """Return which rows are holdout, or were not there yet when the champion was trained."""
        rule = self._recorded_holdout(champion)
        holdout = pd.Series(rule.mask(frame[FEATURE_KEY]), index=frame.index)
        version = champion.tags.get(FEATURES_VERSION_TAG)
        if version is None or int(version) == self.session.tables.version(FEATURE_TABLE.name):
            return holdout
        try:
            trained = self.session.tables.read(FEATURE_TABLE.name, int(version)).select("booking_id")
            mine = self.session.spark.createDataFrame(frame[["booking_id"]])
            new = set(to_pandas(mine.join(trained, "booking_id", "left_anti"))["booking_id"])
        except spark_errors():
            return holdout
        return holdout | frame["booking_id"].isin(new)

    def _recorded_holdout(self, champion: Version) -> Holdout:
        """Return the holdout the champion was trained with, as its run's parameters say."""
        params = self.session.registry.params(champion.run_id)
        try:
            return Holdout(float(params["holdout.fraction"]), int(params["holdout.salt"]))
        except (KeyError, ValueError) as error:
            raise RegistryError(
                f"run {champion.run_id} of version {champion.number} does not say which bookings were held out "
                f"(parameter {error}); train again with model-train"
            ) from error

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
