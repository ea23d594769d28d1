"""`model-monitor`: have bookings moved away from what the champion was trained on, and is it as good as it was."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import ClassVar

import pandas as pd

from booking_mlops.config.checks import require, require_levels
from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings.features import DEFAULT_FEATURES
from booking_mlops.core.bookings.quality import REPLACED_BY
from booking_mlops.core.bookings.schema import FEATURE_KEY, LABEL
from booking_mlops.core.bookings.tables import BOOKINGS, FEATURE_TABLE, MONITORING, REJECTED
from booking_mlops.core.drift.findings import Finding, Level, Levels, capped, worst_level
from booking_mlops.core.drift.measures import domain_auc, live_finding, psi, quality_findings
from booking_mlops.core.drift.references import Reference
from booking_mlops.core.drift.seasons import Window, newest_window
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.core.reports import monitoring_report
from booking_mlops.errors import DriftAlarm
from booking_mlops.io.registry import Version
from booking_mlops.services.backtest import AS_OF_ROC_AUC
from booking_mlops.services.drift import (
    Baseline,
    DriftConfig,
    DriftSample,
    drift_findings,
    load_baseline,
    random_sample,
    read_drift_sample,
)
from booking_mlops.services.live_scores import LAST_SCORE, score_before, scores_while_open
from booking_mlops.services.retraining import RETRAIN, Retraining, retrain_once
from booking_mlops.tasks.task import Result, Task

REPORT_FILE = "monitoring.html"
NEWEST = "newest window"
SHOWN_ONLY = "shown, not judged"
SCORE = "cancellation_probability"


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
    An alarm makes the task fail when `fail_on_alarm`, and starts the job `retrain_job`, once, when one is named.
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
    """Every finding, the worst level, and what was done about it.

    `compared` says which bookings are new; `window` are the arrivals whose scores are judged.
    """

    level: Level
    findings: tuple[Finding, ...]
    compared: str
    window: Window
    champion_version: int | None
    run_id: str
    retrained: str

    def summary(self) -> list[tuple[str, str]]:
        """Return the level, what was compared, each warning and alarm, and where the report is."""
        judged = [finding for finding in self.findings if finding.level != "too few"]
        lines = [
            ("level", f"{self.level}: {len(judged)} of {len(self.findings)} checks had enough rows to be judged"),
            ("compared", self.compared),
            ("scores judged", _arrivals(self.window)),
        ]
        noticed = [finding for finding in judged if finding.level in ("warn", "alarm")]
        for finding in sorted(noticed, key=lambda finding: finding.level):
            lines.append(
                (finding.level, f"{finding.check}: {finding.subject}: {finding.statistic} {finding.value:.3f}")
            )
        if self.retrained:
            lines.append((RETRAIN, self.retrained))
        return [*lines, ("report", f"{REPORT_FILE} of run {self.run_id}")]


def _references(sample: DriftSample) -> str:
    references = sample.compared.references if sample.compared else ()
    return "; ".join(f"{one.what}: {len(one.rows):,}" for one in references) or "nothing"


def _arrivals(window: Window) -> str:
    if window.first > window.last:
        return "none: no arrivals are past that the last training did not know"
    return f"of arrivals {window.first} to {window.last}"


class ModelMonitor(Task[ModelMonitorConfig, ModelMonitorResult]):
    """Measures, writes the findings down, draws them, and only then raises the alarm.

    It works before there is a model or a prediction.
    """

    name = "model-monitor"
    config_type = ModelMonitorConfig
    help = "Check drift, data quality and the champion's live metrics; fails on an alarm, and can start a retraining."

    def run(self) -> ModelMonitorResult:
        """Compare the bookings that are new to the champion with those it knows, and its scores with the labels.

        Raises: MissingTable; RegistryError; DriftAlarm after everything is written, when `fail_on_alarm`.
        """
        registry, config = self.session.registry, self.config
        champion = registry.champion()
        names = tuple(registry.input_schema(champion)) if champion else DEFAULT_FEATURES
        baseline = load_baseline(registry, champion)
        sample = read_drift_sample(self.session.tables, config.drift, champion, baseline, self.session.as_of, names)
        self.log.info("drift: %s", sample.description)
        findings = drift_findings(sample, config.drift, names)
        findings.append(self._domain(sample, names))
        findings += self._quality(sample, baseline, names)
        findings.append(self._score_drift(sample, champion))
        window = self._judged_window(baseline)
        live, weeks = self._live_metrics(window, champion)
        findings += live
        level = worst_level(findings)
        retraining = self._retrain(findings, champion, baseline)
        retrained = retraining.words if retraining else ""
        run_id = self._write_report(findings, retrained, sample, names, weeks, champion)
        self._write_findings(findings, retraining, champion, baseline)
        self.log.info("level: %s", level)
        if level == "alarm" and config.fail_on_alarm:
            alarms = [finding for finding in findings if finding.level == "alarm"]
            what = "; ".join(f"{one.check}: {one.subject}: {one.statistic} {one.value:.3f}" for one in alarms[:5])
            raise DriftAlarm(
                f"{len(alarms)} of {len(findings)} checks are an alarm: {what}; see {REPORT_FILE} of run {run_id}"
                + (f"; {retrained}" if retrained else "")
            )
        version = champion.number if champion else None
        return ModelMonitorResult(level, tuple(findings), sample.description, window, version, run_id, retrained)

    def _domain(self, sample: DriftSample, names: Sequence[str]) -> Finding:
        def auc(reference: Reference) -> float:
            return domain_auc(reference.rows, sample.current, names, FEATURE_KEY, seed=self.config.seed)

        return sample.lowest("domain classifier", "all features", "ROC AUC", self.config.classifier, auc)

    def _quality(self, sample: DriftSample, baseline: Baseline | None, names: Sequence[str]) -> list[Finding]:
        levels = self.config.quality
        found = []
        if sample.compared is not None and baseline is not None:
            found = quality_findings(baseline.known, sample.current, names, self.session.env.all_ranges, levels)
        share, total = self._rejected_share()
        if total:
            detail = "lines of the newest file that had any; lines that a later one replaced are not among them"
            found.append(
                Finding("data quality", REJECTED.name, "share", share, levels.of(share), levels, total, 0, detail)
            )
        return found

    def _rejected_share(self) -> tuple[float, int]:
        """Return the share of bad lines in the newest file that had any, and how many lines and bookings there are."""
        tables = self.session.tables
        if not (tables.exists(REJECTED.name) and tables.exists(BOOKINGS.name)):
            return math.nan, 0
        newest = f"(SELECT max_by(source_fingerprint, rejected_at) FROM {tables.full_name(REJECTED.name)})"
        rejected = tables.read(REJECTED.name).where(f"source_fingerprint = {newest}")
        bad = rejected.where(f"NOT startswith(reason, '{REPLACED_BY}')").count()
        total = bad + tables.read(BOOKINGS.name).count()
        return (bad / total if total else math.nan), total

    def _score_drift(self, sample: DriftSample, champion: Version | None) -> Finding:
        """Compare the champion's scores of both sides, which it gives here: `predictions` may lack those of either."""
        config = self.config.drift
        if champion is None or sample.compared is None:
            return sample.lowest("score drift", SCORE, "PSI", config.levels, lambda _: math.nan)
        model, names = self.session.registry.load(champion), list(self.session.registry.input_schema(champion))

        def scores(rows: pd.DataFrame) -> pd.Series:
            return pd.Series(cancellation_probability(model, as_model_input(rows, names)))

        current = scores(sample.current)
        return sample.lowest(
            "score drift", SCORE, "PSI", config.levels, lambda one: psi(scores(one.rows), current, config.bins)
        )

    def _judged_window(self, baseline: Baseline | None) -> Window:
        """Return the newest arrivals that are past, of those that no training has seen the outcome of."""
        as_of = self.session.as_of
        window = newest_window(as_of - timedelta(days=1), self.config.drift.window_days)
        return window if baseline is None else Window(max(window.first, min(baseline.as_of, as_of)), window.last)

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

    def _retrain(
        self, findings: Sequence[Finding], champion: Version | None, baseline: Baseline | None
    ) -> Retraining | None:
        """Start the configured job on an alarm, once. Return what was done, None when there is nothing to do."""
        job = self.config.retrain_job
        alarms = [finding for finding in findings if finding.level == "alarm"]
        return retrain_once(self.session, job, alarms, champion, baseline) if job and alarms else None

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

    def _write_findings(
        self,
        findings: Sequence[Finding],
        retraining: Retraining | None,
        champion: Version | None,
        baseline: Baseline | None,
    ) -> None:
        """Replace the day's rows of `monitoring`; a retraining is a row too."""
        tables, now = self.session.tables, self._now
        rows = [*findings, *([retraining.finding] if retraining else [])]
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
                "reference_version": baseline.version if baseline else None,
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
            "New bookings": sample.description,
            "Compared with": _references(sample),
            "Levels of PSI": f"warn from {drift.levels.warn:g}, alarm from {drift.levels.alarm:g}",
            "Levels of the domain classifier": f"warn from {self.config.classifier.warn:g}, "
            f"alarm from {self.config.classifier.alarm:g}",
            "Not judged": f"fewer than {drift.min_rows:,} rows on a side; {self.config.live.min_rows} for live metrics",
        }
