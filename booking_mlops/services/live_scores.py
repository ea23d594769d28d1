"""The scores that bookings had while they were open, beside the outcomes that came later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.schema import LABEL
from booking_mlops.core.bookings.tables import LABELS, PREDICTIONS
from booking_mlops.core.model.correction import Correction, fit_correction
from booking_mlops.io.tables import Tables, to_pandas

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LAST_SCORE = "score"
_RECENT_DAYS = 30
_ENOUGH = 300


def score_before(days: int) -> str:
    """Return the name of the column with the last score of at least `days` days before arrival."""
    return f"score_{days}"


def _given_while_open(tables: Tables, since: date, as_of: date) -> DataFrame | None:
    """Return each score that a booking had while it was open, and its outcome, of the arrivals from `since` to `as_of`.

    Both days are left out. None when no table says so yet.
    """
    if not (tables.exists(PREDICTIONS.name) and tables.exists(LABELS.name)):
        return None
    predictions = tables.read(PREDICTIONS.name)
    # A table that an earlier release wrote does not say which scores those are.
    if "was_open" not in predictions.columns:
        return None
    arrived = f"event_date > DATE'{since}' AND event_date < DATE'{as_of}'"
    labels = tables.read(LABELS.name).where(arrived).selectExpr("booking_id", LABEL, "event_date AS arrival_date")
    # A score of the day of arrival, at the latest: after it the end is known.
    return predictions.where("was_open").join(labels, "booking_id").where("scored_on <= arrival_date")


def scores_while_open(tables: Tables, since: date, as_of: date, days_before: Sequence[int]) -> DataFrame | None:
    """Return the bookings that arrived after `since` and before `as_of` and were scored while they were open.

    Columns: booking_id, arrival_date, the label, the last score while the booking was open, and the last one of at
    least each of `days_before` days before arrival, NULL where there is none. None when no scores say so.
    """
    from pyspark.sql import functions as F

    given = _given_while_open(tables, since, as_of)
    if given is None:
        return None
    last, days = "max_by(cancellation_probability, scored_on)", "datediff(arrival_date, scored_on)"
    return given.groupBy("booking_id", "arrival_date", LABEL).agg(
        F.expr(last).alias(LAST_SCORE),
        *[F.expr(f"{last} FILTER (WHERE {days} >= {early})").alias(score_before(early)) for early in days_before],
    )


@dataclass(frozen=True)
class LiveCount:
    """The scores of the last month whose outcome is known: how many, what they expected, what came.

    `correction` is the one with which as many cancellations would have been expected as there were.
    """

    scores: int
    expected: float
    cancelled: int
    correction: Correction

    def in_words(self) -> str:
        """Return what was expected, what came, and what is done about it."""
        third = float(self.correction.apply([1 / 3])[0])
        return (
            f"Of the bookings scored while they were open in the last {_RECENT_DAYS} days that have an outcome, "
            f"{100 * self.expected / self.scores:.0f} of 100 were expected to be cancelled, and "
            f"{100 * self.cancelled / self.scores:.0f} were. The probabilities are corrected accordingly: "
            f"one of 33 % becomes {100 * third:.0f} %."
        )


def live_count(tables: Tables, as_of: date) -> LiveCount | None:
    """Return how the scores of the last month compare with the outcomes known as of a day; None with few of them.

    It knows what a backtest can't: who had cancelled before a day was no open booking of that day.
    """
    from pyspark.sql import functions as F

    since = as_of - timedelta(days=_RECENT_DAYS + 1)
    given = _given_while_open(tables, since, as_of)
    if given is None:
        return None
    # A score counts on each day it was given; a hundred probabilities say as much, however many scores there are.
    recent = given.where(f"scored_on > DATE'{since}'").withColumn("p", F.round("cancellation_probability", 2))
    counts = to_pandas(recent.groupBy("p").agg(F.count(LABEL).alias("scores"), F.sum(LABEL).alias("cancelled")))
    # Spark's order differs from run to run, and with it the last digits of a sum.
    counts = counts.sort_values("p", ignore_index=True)
    scores = int(counts["scores"].sum())
    if scores < _ENOUGH:
        return None
    correction = fit_correction(counts["p"], counts["cancelled"], counts["scores"])
    expected = float((counts["p"] * counts["scores"]).sum())
    return LiveCount(scores, expected, int(counts["cancelled"].sum()), correction)
