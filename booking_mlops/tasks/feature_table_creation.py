"""`feature-table-creation`: bookings → features and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from booking_mlops.config.model import FeatureTableCreationConfig
from booking_mlops.core.bookings.features import feature_key_sql, feature_select, label_select, sample_sql
from booking_mlops.core.bookings.schema import BOOKINGS, FEATURE_TABLE, LABELS, Table
from booking_mlops.errors import DataQualityError
from booking_mlops.io.tables import at_once
from booking_mlops.tasks.base import Result, Task


@dataclass(frozen=True)
class FeatureTableCreationResult(Result):
    """Rows in each table, the Delta versions they are in, and whether anything had to be written."""

    rows: int
    features_version: int
    labels_version: int
    bookings_version: int
    written: bool

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        state = "" if self.written else " (up to date, nothing written)"
        return [
            ("features", f"{self.rows:,} rows, version {self.features_version}{state}"),
            ("labels", f"{self.rows:,} rows, version {self.labels_version}"),
        ]


class FeatureTableCreation(Task[FeatureTableCreationConfig, FeatureTableCreationResult]):
    """Derives both tables from one version of `bookings`; skips a table that stands for that version already."""

    name = "feature-table-creation"
    config_type = FeatureTableCreationConfig
    help = "Build the feature table and the labels table from the bookings."

    def run(self) -> FeatureTableCreationResult:
        """See `Task`."""
        version = self.lake.version(BOOKINGS.name)
        sampling = self.env.sampling.fraction
        bookings = self.lake.read(BOOKINGS.name, version)
        if sampling < 1.0:
            chosen = bookings.selectExpr("*", feature_key_sql())
            bookings = chosen.where(sample_sql(sampling, "environment")).drop("feature_key")

        def create(table: Table, columns: Sequence[str]) -> bool:
            fingerprint = hashlib.sha256(repr((version, sampling, columns)).encode()).hexdigest()
            return self.write_once(table, bookings.selectExpr(*columns), fingerprint)

        written = any(at_once(lambda: create(FEATURE_TABLE, feature_select()), lambda: create(LABELS, label_select())))
        rows, features_version, labels_version = at_once(
            self.lake.read(FEATURE_TABLE.name).count,
            lambda: self.lake.version(FEATURE_TABLE.name),
            lambda: self.lake.version(LABELS.name),
        )
        if rows == 0:
            raise DataQualityError(
                f"{self.lake.full_name(FEATURE_TABLE.name)} is empty: "
                f"{self.lake.full_name(BOOKINGS.name)} has no rows, or sampling.fraction leaves none"
            )
        return FeatureTableCreationResult(
            rows=rows,
            features_version=features_version,
            labels_version=labels_version,
            bookings_version=version,
            written=written,
        )
