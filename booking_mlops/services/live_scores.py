"""The scores that bookings had while they were open, beside the outcomes that came later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.schema import LABEL
from booking_mlops.core.bookings.tables import LABELS, PREDICTIONS
from booking_mlops.io.tables import Tables

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

LAST_SCORE = "score"


def score_before(days: int) -> str:
    """Return the name of the column with the last score of at least `days` days before arrival."""
    return f"score_{days}"


def scores_while_open(tables: Tables, since: date, as_of: date, days_before: Sequence[int]) -> DataFrame | None:
    """Return the bookings that arrived after `since` and before `as_of` and were scored while they were open.

    Columns: booking_id, arrival_date, the label, the last score while the booking was open, and the last one of at
    least each of `days_before` days before arrival, NULL where there is none. None when no scores say so.
    """
    from pyspark.sql import functions as F

    if not (tables.exists(PREDICTIONS.name) and tables.exists(LABELS.name)):
        return None
    predictions = tables.read(PREDICTIONS.name)
    # A table that an earlier release wrote does not say which scores those are.
    if "was_open" not in predictions.columns:
        return None
    arrived = f"event_date > DATE'{since}' AND event_date < DATE'{as_of}'"
    labels = tables.read(LABELS.name).where(arrived).selectExpr("booking_id", LABEL, "event_date AS arrival_date")
    # A score of the day of arrival, at the latest: after it the end is known.
    given = predictions.where("was_open").join(labels, "booking_id").where("scored_on <= arrival_date")
    last, days = "max_by(cancellation_probability, scored_on)", "datediff(arrival_date, scored_on)"
    return given.groupBy("booking_id", "arrival_date", LABEL).agg(
        F.expr(last).alias(LAST_SCORE),
        *[F.expr(f"{last} FILTER (WHERE {days} >= {early})").alias(score_before(early)) for early in days_before],
    )
