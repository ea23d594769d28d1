"""`outlook`: what the scores of the open bookings mean for each date of arrival ahead."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timezone
from typing import Any

import pandas as pd

from booking_mlops.config.checks import require
from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings.tables import OUTLOOK
from booking_mlops.core.model.correction import Correction
from booking_mlops.core.model.scoring import as_model_input, cancellation_probability
from booking_mlops.core.outlook.dates import ArrivalDate, by_arrival_date
from booking_mlops.core.outlook.overbooking import Overbooking, Suggestion, suggestions
from booking_mlops.core.outlook.reasons import reasons, typical_values
from booking_mlops.core.outlook.record import judged, record
from booking_mlops.core.reports.outlook_report import FirstBooking, OutlookPage, render
from booking_mlops.io.registry import Version
from booking_mlops.services.backtest import read_backtest
from booking_mlops.services.live_scores import live_count
from booking_mlops.services.open_bookings import earlier_outlooks, guests_staying, scored_open_bookings
from booking_mlops.tasks.task import Result, Task

PAGE_FILE = "outlook.html"


@dataclass(frozen=True)
class OutlookConfig:
    """`outlook`: how wide its intervals are, how many bookings it names, and how far back it is judged.

    `coverage` is the least probability of an interval. `first` bookings are named, by probability times value. Outlooks
    of arrivals in the last `record_days` are judged by what came. An overbooking is suggested when `capacity` and
    `walk_cost` are set.
    """

    env: EnvConfig
    coverage: float = 0.8
    first: int = 20
    record_days: int = 90
    overbooking: Overbooking = field(default_factory=Overbooking)

    def __post_init__(self) -> None:
        require(0.0 < self.coverage < 1.0, f"coverage: {self.coverage:g} is not between 0 and 1")
        require(self.first > 0, f"first: {self.first} is not above 0")
        require(self.record_days > 0, f"record_days: {self.record_days} is not above 0")
        rule = self.overbooking
        together = (rule.capacity is None) == (rule.walk_cost is None)
        require(together, "overbooking: capacity and walk_cost are set together")
        for name in ("capacity", "walk_cost", "price"):
            value = getattr(rule, name)
            require(value is None or value > 0, f"overbooking.{name}: {value} is not above 0")


@dataclass(frozen=True)
class OutlookResult(Result):
    """The dates ahead, and where the page is; `run_id` is None when no booking is open."""

    as_of: date
    dates: tuple[ArrivalDate, ...]
    unscored: int
    coverage: float
    model: str
    run_id: str | None
    written: bool

    @property
    def page(self) -> tuple[str, str] | None:
        """See `Result`."""
        return (self.run_id, PAGE_FILE) if self.run_id else None

    def summary(self) -> list[tuple[str, str]]:
        """Return what is open, what is to be expected of it, and where the page is."""
        if not self.dates:
            return [("outlook", f"no booking is open and arrives on {self.as_of} or later, so there is nothing ahead")]
        bookings = sum(one.open_bookings for one in self.dates)
        expected, at_stake = sum(one.expected for one in self.dates), sum(one.value_at_stake for one in self.dates)
        state = "" if self.written else " (up to date, nothing written)"
        first, week = self.dates[0].arrival_date, [one for one in self.dates if one.days_after(self.as_of) < 7]
        lines = [
            ("outlook", f"{bookings:,} open bookings on {len(self.dates):,} dates from {first} on{state}"),
            ("expected", f"{expected:,.0f} cancellations ({expected / bookings:.0%}), value at stake {at_stake:,.0f}"),
            ("next days", ", ".join(f"{one.arrival_date:%a %d} {one.range} of {one.open_bookings}" for one in week)),
            ("", f"{self.coverage:.0%} intervals; by {self.model}"),
        ]
        if self.unscored:
            lines.append(("unscored", f"{self.unscored:,} open bookings have no score; run model-inference-batch"))
        return [*lines, ("page", f"{PAGE_FILE} of run {self.run_id}")]


class Outlook(Task[OutlookConfig, OutlookResult]):
    """Reads the day's scores of the open bookings, which are few, and works on the driver.

    The day's rows of the table are replaced, never doubled.
    """

    name = "outlook"
    config_type = OutlookConfig
    help = "Say for each date ahead how many of the open bookings to expect cancelled; writes outlook.html."

    def run(self) -> OutlookResult:
        """Write the outlook of the day the data stand for.

        Raises: MissingTable when there are no features or no scores of that day; RegistryError; WriteFailed.
        """
        tables, config, as_of = self.session.tables, self.config, self.session.as_of
        scored = scored_open_bookings(tables, as_of)
        if scored is None:
            self._remove_rows_of_the_day()
            return OutlookResult(as_of, (), 0, config.coverage, "", None, written=False)
        version = self.session.registry.version(scored.model_version)
        backtest = read_backtest(self.session.registry, version)
        live = live_count(tables, as_of)
        correction = live.correction if live else backtest.correction
        bookings = scored.bookings.assign(probability=correction.apply(scored.bookings["uncorrected"]))
        made = _Made(
            version=version,
            correction=correction,
            correction_in_words=live.in_words() if live else backtest.in_words(),
            correlation=backtest.correlation,
            bookings=bookings,
            dates=by_arrival_date(bookings, correlation=backtest.correlation, coverage=config.coverage),
            suggestions=self._suggestions(bookings, backtest.correlation),
            judged=judged(earlier_outlooks(tables, as_of, config.record_days)),
        )
        fingerprint = made.fingerprint(config)
        run_id = self._run_of_the_same(fingerprint)
        written = run_id is None
        if run_id is None:
            run_id = self._write_page(made)
            rows = self._rows(made, run_id)
            tables.ensure(OUTLOOK)
            tables.replace_rows(OUTLOOK.name, rows, where=f"as_of = DATE'{as_of}'", fingerprint=fingerprint)
        model = f"{version.name} version {version.number}"
        return OutlookResult(as_of, tuple(made.dates), scored.unscored, config.coverage, model, run_id, written=written)

    def _suggestions(self, bookings: pd.DataFrame, correlation: float) -> list[Suggestion]:
        rule = self.config.overbooking
        if rule.capacity is None:
            return []
        staying = guests_staying(self.session.tables, self.session.as_of)
        nights = sorted(bookings["arrival_date"].unique())
        return suggestions(bookings, staying, nights, rule, correlation)

    def _run_of_the_same(self, fingerprint: str) -> str | None:
        """Return the run that has the page of this outlook, when the table holds it already."""
        tables = self.session.tables
        if tables.fingerprint(OUTLOOK.name) != fingerprint:
            return None
        row = tables.read(OUTLOOK.name).where(f"as_of = DATE'{self.session.as_of}'").select("run_id").head()
        return str(row["run_id"]) if row else None

    def _remove_rows_of_the_day(self) -> None:
        """Remove what the table says of a day on which no booking is open any more: an earlier run found some."""
        tables, of_the_day = self.session.tables, f"as_of = DATE'{self.session.as_of}'"
        if tables.exists(OUTLOOK.name) and not tables.read(OUTLOOK.name).where(of_the_day).isEmpty():
            tables.replace_rows(OUTLOOK.name, [], where=of_the_day)

    def _write_page(self, made: _Made) -> str:
        """Write the page as an artifact of a run; return the run's id."""
        env, registry, as_of = self.session.env, self.session.registry, self.session.as_of
        page = OutlookPage(
            title=f"{env.environment}: the bookings ahead",
            as_of=as_of,
            coverage=self.config.coverage,
            dates=made.dates,
            first=self._first(made),
            suggestions=made.suggestions,
            correction=made.correction_in_words,
            judged=made.judged,
            record=record(made.judged),
            facts=self._facts(made),
        )
        tags = {"environment": env.environment, "as_of": as_of.isoformat()}
        with registry.run(f"{env.environment} outlook", tags) as run_id:
            measured = {
                "open_bookings": float(len(made.bookings)),
                "expected_cancellations": float(made.bookings["probability"].sum()),
            }
            registry.log_metrics(measured, {})
            registry.log_files({PAGE_FILE: render(page)})
        return run_id

    def _first(self, made: _Made) -> list[FirstBooking]:
        """Return the bookings with the most at stake, and the features that raise their probabilities."""
        registry, version = self.session.registry, made.version
        names, model = list(registry.input_schema(version)), registry.load(version)
        order = (made.bookings["probability"] * made.bookings["value"]).sort_values(ascending=False, kind="stable")
        top = made.bookings.loc[order.index[: self.config.first]]

        def probability(inputs: pd.DataFrame) -> Any:
            return made.correction.apply(cancellation_probability(model, inputs))

        typical = typical_values(as_model_input(made.bookings, names))
        why = reasons(as_model_input(top, names), typical, probability)
        return [
            FirstBooking(
                booking_id=row["booking_id"],
                arrival_date=row["arrival_date"],
                days_ahead=int(row["days_ahead"]),
                nights=int(row["nights"]),
                value=float(row["value"]),
                probability=float(row["probability"]),
                reasons=found,
            )
            for (_, row), found in zip(top.iterrows(), why, strict=True)
        ]

    def _rows(self, made: _Made, run_id: str) -> list[dict[str, Any]]:
        """Return the rows of the table."""
        suggested = {one.night: one for one in made.suggestions}
        now = self.session.clock().astimezone(timezone.utc)
        return [
            {
                "as_of": self.session.as_of,
                "arrival_date": one.arrival_date,
                "open_bookings": one.open_bookings,
                "expected_cancellations": one.expected,
                "lower_cancellations": one.lower,
                "upper_cancellations": one.upper,
                "coverage": self.config.coverage,
                "uncorrected_cancellations": one.uncorrected,
                "nights": one.nights,
                "nights_at_stake": one.nights_at_stake,
                "value": one.value,
                "value_at_stake": one.value_at_stake,
                "rooms_booked": suggested[one.arrival_date].booked if suggested else None,
                "overbook_by": suggested[one.arrival_date].overbook_by if suggested else None,
                "model_name": made.version.name,
                "model_version": made.version.number,
                "run_id": run_id,
                "made_at": now,
            }
            for one in made.dates
        ]

    def _facts(self, made: _Made) -> Mapping[str, str]:
        rule = self.config.overbooking
        facts = {
            "Model": f"{made.version.name} version {made.version.number}",
            "Scores": f"of {self.session.as_of}, of {len(made.bookings):,} bookings",
            "Correction": made.correction_in_words,
            "Intervals": "the number of cancellations among bookings of different probability (Poisson-binomial), with "
            f"a correlation of {made.correlation:g} between the bookings of a date, as the backtest showed",
        }
        if rule.capacity is not None:
            price = "the mean price of the night's bookings" if rule.price is None else f"{rule.price:g}"
            facts["Overbooking"] = (
                f"{rule.capacity:,} rooms, {price} lost by an empty one, {rule.walk_cost:g} by a guest to be walked"
            )
        return facts


@dataclass(frozen=True)
class _Made:
    """An outlook, before it is written. `judged` is what became of earlier ones."""

    version: Version
    correction: Correction
    correction_in_words: str
    correlation: float
    bookings: pd.DataFrame
    dates: Sequence[ArrivalDate]
    suggestions: Sequence[Suggestion]
    judged: pd.DataFrame

    def fingerprint(self, config: OutlookConfig) -> str:
        """Return what identifies this outlook: two with the same one would say the same."""
        known = [self.version.number, self.correction_in_words, self.correlation, self.suggestions]
        digest = hashlib.sha256(repr([*known, config.coverage, config.first]).encode())
        for frame in (self.bookings, self.judged):
            digest.update(frame.to_csv(index=False).encode())
        return digest.hexdigest()
