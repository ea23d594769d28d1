"""The bookings that a hotel wants scores of: open, and yet to arrive; and what became of those that were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pandas as pd

from booking_mlops.core.bookings.schema import CANCELED, LABEL, OPEN
from booking_mlops.core.bookings.tables import BOOKINGS, FEATURE_TABLE, LABELS, OUTLOOK, PREDICTIONS
from booking_mlops.errors import MissingTable
from booking_mlops.io.tables import Tables, latest_day, to_pandas

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_NIGHTS = "number_of_weekend_nights + number_of_week_nights"


def open_features(tables: Tables, features: DataFrame, as_of: date, bookings_version: int | None = None) -> DataFrame:
    """Return the rows of `features` whose booking is open and arrives on the day `as_of` or later.

    The features hold no status, so the table `bookings` says which those are.

    Raises: MissingTable.
    """
    # The features' own arrival spares the join those of the past.
    ahead = features.where(f"arrival_date >= DATE'{as_of}'")
    return ahead.join(_open_ids(tables, as_of, bookings_version), "booking_id", "left_semi")


def with_open(tables: Tables, features: DataFrame, as_of: date, bookings_version: int | None, name: str) -> DataFrame:
    """Return all `features`, with a column `name` that is true of those that `open_features` returns.

    Raises: MissingTable.
    """
    from pyspark.sql import functions as F

    still_open = _open_ids(tables, as_of, bookings_version).withColumn(name, F.lit(True))
    ahead = features.where(f"arrival_date >= DATE'{as_of}'").join(still_open, "booking_id", "left")
    marked = ahead.withColumn(name, F.coalesce(name, F.lit(False)))
    # Those of the past, nearly all of a large table, are spared the join.
    past = features.where(f"arrival_date IS NULL OR arrival_date < DATE'{as_of}'")
    return marked.unionByName(past.withColumn(name, F.lit(False)))


def _open_ids(tables: Tables, as_of: date, version: int | None) -> DataFrame:
    bookings = tables.read(BOOKINGS.name, version)
    return bookings.where(f"booking_status = '{OPEN}' AND date_of_reservation >= DATE'{as_of}'").select("booking_id")


def any_arrival_ahead(features: DataFrame, as_of: date) -> bool:
    """Say whether any booking arrives on the day `as_of` or later: Delta's log knows, without reading the table."""
    last = latest_day(features, "arrival_date")
    return last is not None and last >= as_of


@dataclass(frozen=True)
class ScoredBookings:
    """The open bookings that have a score of the day, and how many have none.

    `bookings` has the features, arrival_date, days_ahead, nights, price, value (the price of all nights) and
    `uncorrected`: the probability as the model of `model_version` gave it.
    """

    bookings: pd.DataFrame
    unscored: int
    model_version: int


def scored_open_bookings(tables: Tables, as_of: date) -> ScoredBookings | None:
    """Collect the open bookings with the scores of the day `as_of`; None when no booking is open.

    Raises: MissingTable when none of them has been scored that day.
    """
    features = tables.read(FEATURE_TABLE.name)
    if not any_arrival_ahead(features, as_of):
        return None
    rows = open_features(tables, features, as_of)
    if tables.exists(PREDICTIONS.name):
        scores = tables.read(PREDICTIONS.name).where(f"scored_on = DATE'{as_of}'")
        rows = rows.join(scores.select("booking_id", "cancellation_probability", "model_version"), "booking_id", "left")
    else:
        rows = rows.selectExpr("*", "CAST(NULL AS DOUBLE) AS cancellation_probability", "NULL AS model_version")
    # The order of the rows decides which of two equal bookings is named first.
    found = to_pandas(rows).sort_values("booking_id", kind="stable").reset_index(drop=True)
    if found.empty:
        return None
    scored = found[found["cancellation_probability"].notna()]
    if scored.empty:
        raise MissingTable(
            f"{tables.full_name(PREDICTIONS.name)} has no scores of {as_of} for the {len(found):,} open bookings; "
            "run model-inference-batch first"
        )
    nights = scored["number_of_weekend_nights"] + scored["number_of_week_nights"]
    bookings = scored.assign(
        days_ahead=(pd.to_datetime(scored["arrival_date"]) - pd.Timestamp(as_of)).dt.days,
        nights=nights,
        price=scored["average_price"],
        value=scored["average_price"] * nights,
        uncorrected=scored["cancellation_probability"],
    )
    return ScoredBookings(bookings, len(found) - len(scored), int(scored["model_version"].iloc[0]))


def guests_staying(tables: Tables, as_of: date) -> pd.DataFrame:
    """Collect arrival_date and nights of the guests who arrived before the day `as_of` and stay that night."""
    stays = tables.read(BOOKINGS.name).selectExpr(
        "booking_status", "date_of_reservation AS arrival_date", f"{_NIGHTS} AS nights"
    )
    here = f"arrival_date < DATE'{as_of}' AND date_add(arrival_date, nights) > DATE'{as_of}'"
    return to_pandas(stays.where(f"booking_status <> '{CANCELED}' AND {here}").drop("booking_status"))


def earlier_outlooks(tables: Tables, as_of: date, days: int) -> pd.DataFrame:
    """Collect what earlier outlooks said of the arrivals of the last `days` before `as_of`, and what came.

    Returns the columns that `core.outlook.record.judged` asks for.
    """
    from pyspark.sql import functions as F

    said = ["as_of", "arrival_date", "open_bookings", "expected_cancellations", "lower_cancellations",
            "upper_cancellations"]  # fmt: skip
    known = all(tables.exists(table.name) for table in (OUTLOOK, LABELS, PREDICTIONS))
    if not known or "was_open" not in (predictions := tables.read(PREDICTIONS.name)).columns:
        return pd.DataFrame(columns=[*said, "outcomes", "cancelled"])
    since = as_of - timedelta(days=days)
    past = f"arrival_date < DATE'{as_of}' AND arrival_date >= DATE'{since}' AND as_of < DATE'{as_of}'"
    outlooks = tables.read(OUTLOOK.name).where(past).select(*said)
    labels = tables.read(LABELS.name).where(f"event_date >= DATE'{since}' AND event_date < DATE'{as_of}'")
    came = (
        predictions.where(f"was_open AND scored_on < DATE'{as_of}'")
        .join(labels, "booking_id")
        .selectExpr("scored_on AS as_of", "event_date AS arrival_date", LABEL)
        .groupBy("as_of", "arrival_date")
        .agg(F.count(LABEL).alias("outcomes"), F.sum(LABEL).alias("cancelled"))
    )
    found: pd.DataFrame = to_pandas(outlooks.join(came, ["as_of", "arrival_date"]))
    ordered: pd.DataFrame = found.sort_values(["as_of", "arrival_date"], ignore_index=True)
    return ordered
