"""`integration-test`: what the project promises of its tables and its registry, checked where they are."""

from __future__ import annotations

from dataclasses import dataclass

from booking_mlops.config.model import IntegrationTestConfig
from booking_mlops.core.bookings.schema import BOOKINGS, FEATURE_TABLE, LABEL, LABELS, PREDICTIONS
from booking_mlops.errors import BrokenPromise
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.history import PromotionHistory


@dataclass(frozen=True)
class IntegrationTestResult(Result):
    """The promises that hold."""

    promises: tuple[str, ...]

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        return [("holds", promise) for promise in self.promises]


class IntegrationTest(Task[IntegrationTestConfig, IntegrationTestResult]):
    """Runs after the pipeline, in staging on every change; harmless anywhere."""

    name = "integration-test"
    config_type = IntegrationTestConfig
    help = "Check the tables and the registry against the project's promises; fails when one is broken."

    def run(self) -> IntegrationTestResult:
        """See `Task`. Raises: BrokenPromise, which names every promise that does not hold."""
        held: list[str] = []
        broken: list[str] = []
        for promise, count in self._violations().items():
            (broken if count else held).append(f"{promise} ({count:,} do not)" if count else promise)
        for promise, holds in self._registry_promises().items():
            (held if holds else broken).append(promise)
        if broken:
            raise BrokenPromise("broken promises: " + "; ".join(broken))
        return IntegrationTestResult(tuple(held))

    def _violations(self) -> dict[str, int]:
        """Each promise of the tables, and how many rows break it."""
        bookings, features = self.lake.read(BOOKINGS.name), self.lake.read(FEATURE_TABLE.name)
        labels, predictions = self.lake.read(LABELS.name), self.lake.read(PREDICTIONS.name)
        newest = predictions.where("scored_on = (SELECT max(scored_on) FROM " + self._predictions + ")")
        key = "booking_id"
        return {
            "every booking is there once": bookings.groupBy(key).count().where("count > 1").count(),
            "every feature row is a booking": features.join(bookings, key, "left_anti").count(),
            "features and labels are of the same bookings": features.join(labels, key, "left_anti").count()
            + labels.join(features, key, "left_anti").count(),
            "features hold no label": sum(name in features.columns for name in (LABEL, "booking_status")),
            "features were known when the booking was made": features.where(
                "booked_on <> date_sub(arrival_date, lead_time)"
            ).count(),
            "every booking is scored on the newest day": features.join(newest, key, "left_anti").count(),
            "and only once": newest.groupBy(key).count().where("count > 1").count(),
            "probabilities are between 0 and 1": newest.where(
                "NOT coalesce(cancellation_probability BETWEEN 0 AND 1, false)"
            ).count(),
        }

    @property
    def _predictions(self) -> str:
        return self.lake.full_name(PREDICTIONS.name)

    def _registry_promises(self) -> dict[str, bool]:
        champion = self.registry.require_champion()
        decisions = PromotionHistory(self).rows(limit=1)
        newest = self.lake.read(PREDICTIONS.name).orderBy("scored_at", ascending=False).first()
        return {
            "the champion is what the last decision says": bool(decisions)
            and decisions[0]["champion_after"] == champion.number,
            "the newest scores are the champion's": newest is not None and newest["model_version"] == champion.number,
        }
