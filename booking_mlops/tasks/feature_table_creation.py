"""`feature-table-creation`: bookings → features and labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from booking_mlops.config.environment import EnvConfig
from booking_mlops.core.bookings.features import certain_sql, feature_key_sql, feature_select, label_select, sample_sql
from booking_mlops.core.bookings.tables import BOOKINGS, FEATURE_TABLE, LABELS
from booking_mlops.errors import DataQualityError
from booking_mlops.io.tables import latest_day
from booking_mlops.table import Table
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@dataclass(frozen=True)
class FeatureTableCreationConfig:
    """`feature-table-creation` needs the environment only."""

    env: EnvConfig


@dataclass(frozen=True)
class FeatureTableCreationResult(Result):
    """Rows in each table, the Delta versions they are in, and whether anything had to be written.

    `labelled` of the `rows` bookings have an outcome that is certain as of the day `as_of`.
    """

    rows: int
    labelled: int
    as_of: date
    features_version: int
    labels_version: int
    bookings_version: int
    written: bool

    def summary(self) -> list[tuple[str, str]]:
        """Return rows and version of both tables."""
        state = "" if self.written else " (up to date, nothing written)"
        return [
            ("features", f"{self.rows:,} rows, version {self.features_version}{state}"),
            ("labels", f"{self.labelled:,} rows, version {self.labels_version}"),
            ("", f"{self.rows - self.labelled:,} bookings have no certain outcome as of {self.as_of}"),
        ]


class FeatureTableCreation(Task[FeatureTableCreationConfig, FeatureTableCreationResult]):
    """Derives both tables from one version of `bookings`; a table that is made from that version already is skipped."""

    name = "feature-table-creation"
    config_type = FeatureTableCreationConfig
    help = "Build the feature table and the labels table from the bookings."

    def run(self) -> FeatureTableCreationResult:
        """Write features and labels of the newest bookings.

        Raises: MissingTable; DataQualityError when there are no bookings; WriteFailed.
        """
        tables, sampling = self.session.tables, self.session.env.sampling.fraction
        version = tables.version(BOOKINGS.name)
        bookings = tables.read(BOOKINGS.name, version)
        as_of = self.session.as_of
        certain = certain_sql(as_of)
        # The latest arrival with a label says which have one, so that a day on which none is added writes nothing.
        until = latest_day(bookings, "date_of_reservation", as_of, certain)
        if sampling < 1.0:
            keyed = bookings.selectExpr("*", feature_key_sql())
            bookings = keyed.where(sample_sql(sampling, "environment")).drop("feature_key")

        def write(table: Table, rows: DataFrame, *made_from: object) -> tuple[bool, int, int]:
            fingerprint = hashlib.sha256(repr((version, sampling, *made_from)).encode()).hexdigest()
            written = tables.write_once(table, rows, fingerprint)
            return written, *tables.version_and_rows(table.name, fingerprint)

        features, labels = feature_select(), label_select()
        features_written, features_version, rows = write(FEATURE_TABLE, bookings.selectExpr(*features), features)
        certain_bookings = bookings.where(certain).selectExpr(*labels)
        labels_written, labels_version, labelled = write(LABELS, certain_bookings, labels, str(until))
        if rows == 0:
            raise DataQualityError(
                f"{tables.full_name(FEATURE_TABLE.name)} is empty: "
                f"{tables.full_name(BOOKINGS.name)} has no rows, or sampling.fraction leaves none"
            )
        return FeatureTableCreationResult(
            rows=rows,
            labelled=labelled,
            as_of=as_of,
            features_version=features_version,
            labels_version=labels_version,
            bookings_version=version,
            written=features_written or labels_written,
        )
