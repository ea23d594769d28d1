"""`integration-test`: what the project promises of its tables and its registry, checked where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings.features import certain_sql
from booking_mlops.core.bookings.schema import LABEL
from booking_mlops.core.bookings.tables import BOOKINGS, FEATURE_TABLE, LABELS, PREDICTIONS
from booking_mlops.errors import BrokenPromise
from booking_mlops.services.open_bookings import open_features
from booking_mlops.services.promotions import PromotionHistory, require_champion
from booking_mlops.table import sql_literal
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class IntegrationTestConfig:
    """`integration-test` needs the environment only."""

    env: EnvConfig


@dataclass(frozen=True)
class IntegrationTestResult(Result):
    """The promises that hold."""

    promises: tuple[str, ...]

    def summary(self) -> list[tuple[str, str]]:
        """Return a line for each promise."""
        return [("holds", promise) for promise in self.promises]


class IntegrationTest(Task[IntegrationTestConfig, IntegrationTestResult]):
    """Runs after the pipeline, in staging on every change; it reads only, so it is harmless anywhere."""

    name = "integration-test"
    config_type = IntegrationTestConfig
    help = "Check the tables and the registry against the project's promises; fails when one is broken."

    def run(self) -> IntegrationTestResult:
        """Check every promise.

        Raises: BrokenPromise, which names every promise that does not hold.
        """
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
        """Return each promise of the tables, and how many rows break it."""
        tables = self.session.tables
        bookings, features = tables.read(BOOKINGS.name), tables.read(FEATURE_TABLE.name)
        labels, predictions = tables.read(LABELS.name), tables.read(PREDICTIONS.name)
        still_open = open_features(tables, features, self.session.as_of)
        # Without open bookings all are scored.
        scored = features if still_open.isEmpty() else still_open
        newest = predictions.where(f"scored_on = (SELECT max(scored_on) FROM {tables.full_name(PREDICTIONS.name)})")
        key = "booking_id"
        certain = certain_sql(self.session.as_of)
        # The labels may be of an earlier day than this test.
        labelled_until = f"(SELECT max(event_date) FROM {tables.full_name(LABELS.name)})"
        due = bookings.where(f"{certain} AND date_of_reservation <= {labelled_until}")
        breaking = {
            "every booking is there once": bookings.groupBy(key).count().where("count > 1"),
            "every feature row is a booking": features.join(bookings, key, "left_anti"),
            "every label is of a booking with features": labels.join(features, key, "left_anti"),
            "every label is certain": labels.join(bookings.where(f"NOT ({certain})"), key, "left_semi"),
            "every certain outcome is a label": features.join(due, key, "left_semi").join(labels, key, "left_anti"),
            "features were known when the booking was made": features.where(
                "booked_on <> date_sub(arrival_date, lead_time)"
            ),
            "every booking to be scored is, on the newest day": scored.join(newest, key, "left_anti"),
            "and only once": newest.groupBy(key).count().where("count > 1"),
            "probabilities are between 0 and 1": newest.where(
                "NOT coalesce(cancellation_probability BETWEEN 0 AND 1, false)"
            ),
        }
        labels_among_features = sum(name in features.columns for name in (LABEL, "booking_status"))
        return {"features hold no label": labels_among_features, **_row_counts(breaking)}

    def _registry_promises(self) -> dict[str, bool]:
        champion = require_champion(self.session)
        decisions = PromotionHistory(self.session).rows(limit=1)
        newest = self.session.tables.read(PREDICTIONS.name).orderBy("scored_at", ascending=False).first()
        return {
            "the champion is what the last decision says": bool(decisions)
            and decisions[0]["champion_after"] == champion.number,
            "the newest scores are the champion's": newest is not None and newest["model_version"] == champion.number,
        }


def _row_counts(frames: Mapping[str, DataFrame]) -> dict[str, int]:
    """Return how many rows each of the frames has, by its name; one query, since to plan each takes longer than it."""
    counts = [rows.selectExpr(f"{sql_literal(name)} AS name", "count(*) AS rows") for name, rows in frames.items()]
    return {row["name"]: row["rows"] for row in reduce(lambda one, other: one.union(other), counts).collect()}
