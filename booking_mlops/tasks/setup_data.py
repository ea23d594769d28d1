"""`setup-data`: files of bookings → bookings and bookings_rejected."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, ClassVar, Literal

import pandas as pd

from booking_mlops.config.checks import require, require_share
from booking_mlops.config.environment import EnvConfig
from booking_mlops.config.paths import databricks_path
from booking_mlops.core.bookings import synthetic_data
from booking_mlops.core.bookings.file_settings import FileSettings
from booking_mlops.core.bookings.quality import NO_GUESTS, NO_NIGHTS, RowRules
from booking_mlops.core.bookings.schema import CANCELED, CSV_HEADER, NOT_CANCELED, OPEN
from booking_mlops.core.bookings.spelling import MAX_SPELLINGS
from booking_mlops.core.bookings.status import StatusWords
from booking_mlops.core.bookings.tables import BOOKINGS
from booking_mlops.errors import DataQualityError
from booking_mlops.io.machine import Machine
from booking_mlops.io.source_files import SourceFile, list_files, local_files, local_path
from booking_mlops.io.spark import computed_once
from booking_mlops.io.tables import root_cause, spark_errors
from booking_mlops.services.booking_files import BookingLines, read_files, read_rows
from booking_mlops.services.booking_lines import BOOKING, CATEGORIES, EQUAL, REPLACED, STANDINGS, UPDATED, with_standing
from booking_mlops.services.bookings_writing import Delivery, Written, holds_real_bookings, write_delivery
from booking_mlops.services.ingested_files import record_files, unread_files
from booking_mlops.services.permissions import apply_schema_permissions
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


_BYTES_IN_A_LINE = 100
_STANDINGS_SHOWN = {
    REPLACED: "replaced by a later line of the same booking",
    EQUAL: "equal to another line",
    UPDATED: "replaced by a later file",
}


@dataclass(frozen=True)
class SetupDataConfig:
    """`setup-data`: which file to ingest, how it spells the status, and how many of its rows may be bad.

    `source_csv` is a file, a folder, a pattern (`dbfs:/…` and `/Volumes/…` too), a Delta table's folder or a table's
    name `catalog.schema.table`. When it is left out, `allow_synthetic_data` allows making `synthetic_rows` bookings
    (seed `synthetic_seed`) in its place. With `synthetic_open_bookings` they are as they stand on the day `as_of`: some
    are open, and a day later there are new ones and new outcomes.
    With `mode: merge` the files' bookings are added or updated and the others stay; of a folder or a pattern each file
    is read once. `snapshot` replaces all bookings, and refuses when more than `max_removed_share` would go. Real
    bookings replace synthetic ones, never the reverse.
    What files do not say themselves is said here: `columns` maps a column of `bookings` to its header in the files,
    `date_format` is the order of day and month (d/m/Y, m/d/Y or Y-m-d), `decimal` the decimal sign, `encoding` utf-8,
    latin-1, windows-1252 or utf-16, `separator` what stands between fields. `reject_empty_stays` makes bookings without
    guests or without nights bad rows.
    An arrival more than `max_days_ahead` after `env.as_of` is a bad row, since hotels take bookings for two years at
    most; so is one more than `max_days_back` before it, since 1900 and 1970 are what programs write for no date.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {
        "ranges": "env.ranges",
        "make_data": "allow_synthetic_data",
        "made_rows": "synthetic_rows",
        "made_seed": "synthetic_seed",
    }

    env: EnvConfig
    source_csv: str | None = None
    allow_synthetic_data: bool = False
    synthetic_rows: int = 20_000
    synthetic_seed: int = 7
    synthetic_open_bookings: bool = False
    max_rejected_share: float = 0.02
    mode: Literal["merge", "snapshot"] = "merge"
    max_removed_share: float = 0.1
    status_words: StatusWords = field(default_factory=StatusWords)
    max_days_ahead: int = 730
    max_days_back: int = 20 * 365
    columns: Mapping[str, str] = field(default_factory=dict)
    date_format: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    separator: str | None = None
    reject_empty_stays: bool = False

    def __post_init__(self) -> None:
        require(self.source_csv != "", "source_csv: is empty; leave it out, or name a file")
        require(self.synthetic_rows > 0, f"synthetic_rows: {self.synthetic_rows} is not above 0")
        require_share("max_rejected_share", self.max_rejected_share)
        require_share("max_removed_share", self.max_removed_share)
        for name in ("max_days_ahead", "max_days_back"):
            require(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is below 0")
        # It checks its own values.
        _ = self.file_settings

    @property
    def file_settings(self) -> FileSettings:
        """How the files are spelled, as far as it is said here."""
        return FileSettings(self.columns, self.date_format, self.decimal, self.encoding, self.separator)


@dataclass(frozen=True)
class SetupDataResult(Result):
    """Lines read (without header and blank lines) = bookings + rejected; `states` counts the bookings by status.

    `total` bookings are in the table; `merged` says how many of the file's were added and changed, None for a snapshot.
    """

    source: str
    synthetic: bool
    as_of: date
    read: int
    bookings: int
    states: Mapping[str, int]
    rejected: int
    reasons: Mapping[str, int]
    total: int
    merged: tuple[int, int] | None
    bookings_version: int
    written: bool
    replaced: Mapping[str, int] = field(default_factory=dict)
    no_guests: int = 0
    no_nights: int = 0
    notes: tuple[tuple[str, str], ...] = ()

    def summary(self) -> list[tuple[str, str]]:
        """Return the source, what became of its rows, and the version of `bookings`."""
        replaced = sum(self.replaced.values())
        others = f" + {replaced:,} repeated" if replaced else ""
        lines = [
            ("source", f"{self.source}{' (synthetic data)' if self.synthetic else ''}"),
            ("rows in", f"{self.read:,} read = {self.bookings:,} bookings + {self.rejected:,} rejected{others}"),
        ]
        lines += [("", f"{count:,} × {reason}") for reason, count in self.reasons.items()]
        lines += [("", f"{count:,} × {_STANDINGS_SHOWN[standing]}") for standing, count in self.replaced.items()]
        lines += self.notes
        empty = [
            f"{count:,} × {what}"
            for what, count in (("no guests", self.no_guests), ("no nights", self.no_nights))
            if count
        ]
        if empty:
            lines.append(("to look at", f"{', '.join(empty)} (reject_empty_stays rejects them)"))
        kept, cancelled, still_open = (self.states.get(state, 0) for state in (NOT_CANCELED, CANCELED, OPEN))
        lines.append(("as of", f"{self.as_of}: {kept:,} kept, {cancelled:,} cancelled, {still_open:,} open"))
        state = "" if self.written else " (up to date, nothing written)"
        what = "" if self.merged is None else f": {self.merged[0]:,} new, {self.merged[1]:,} changed"
        return [*lines, ("bookings", f"{self.total:,} rows, version {self.bookings_version}{what}{state}")]


class SetupData(Task[SetupDataConfig, SetupDataResult]):
    """Brings the file into the lake: every line becomes a booking, or a rejected row with its reason."""

    name = "setup-data"
    config_type = SetupDataConfig
    help = "Check files of bookings and bring them into the lake; makes synthetic data when no file is named."

    @classmethod
    def input_bytes(cls, config: SetupDataConfig, machine: Machine) -> int:
        """Return the size of the files, or about that of the synthetic data."""
        if config.source_csv is None:
            return config.synthetic_rows * _BYTES_IN_A_LINE
        path = local_path(databricks_path(config.source_csv), machine)
        return sum(file.size for file in local_files(path)) if path is not None else 0

    def run(self) -> SetupDataResult:
        """Read, check and write the file.

        Raises: DataQualityError when there is no file, it can't be read, or too many rows are bad; WriteFailed.
        """
        from pyspark.errors import AnalysisException

        source = self.config.source_csv or "synthetic data"
        try:
            files = self._files()
            if files == []:
                return self._nothing_new(source)
            source, read = self._lines(files)
            machine = self.session.machine
            with computed_once(read.lines, machine) as judged:
                lines = with_standing(judged, kept=not machine.serverless)
                result = self._ingest(source, files is None, lines, read.notes)
        except AnalysisException:
            # A query that Spark does not understand is our mistake, not the file's.
            raise
        except spark_errors() as error:
            # Writing has errors of its own, so what fails here is reading: the file, or the bookings that it changes.
            cause = root_cause(error)
            tables = self.session.tables
            what = tables.full_name(BOOKINGS.name) if tables.is_named_in(BOOKINGS.name, cause) else source
            raise DataQualityError(f"{what}: can't be read to its end: {cause}; nothing was written") from error
        if files and not self._is_named(files):
            # Last: a run that ends before reads them again, which changes nothing.
            record_files(self.session.tables, files, self.session.clock(), self.session.as_of)
        return result

    @property
    def rules(self) -> RowRules:
        """What decides whether a line is a booking."""
        config, session = self.config, self.session
        return RowRules(
            ranges=session.env.all_ranges,
            status_words=config.status_words,
            as_of=session.as_of,
            max_days_ahead=config.max_days_ahead,
            max_days_back=config.max_days_back,
            reject_empty_stays=config.reject_empty_stays,
        )

    def _ingest(
        self, source: str, synthetic: bool, lines: DataFrame, notes: tuple[tuple[str, str], ...]
    ) -> SetupDataResult:
        from pyspark.sql import functions as F

        # Reasons are counted by kind: without the value and the line number, which differ from row to row.
        kind = "IF(standing = 'bad', regexp_replace(reason, ' ?\"[^\"]*\"', ''), '') AS kind"
        state = "IF(standing = 'booking', booking_status, '') AS state"
        place = "source_file, source_line"
        kinds = (
            lines.selectExpr(
                kind,
                state,
                "standing",
                f"standing = 'booking' AND {NO_GUESTS} AS no_guests",
                f"standing = 'booking' AND {NO_NIGHTS} AS no_nights",
                f"xxhash64({place}, raw_row) AS hash",
                f"xxhash64({place}, reason) AS judged",
            )
            .groupBy("kind", "state", "standing")
            .agg(
                F.count("*").alias("rows"),
                F.expr("count_if(no_guests)").alias("no_guests"),
                F.expr("count_if(no_nights)").alias("no_nights"),
                F.expr("bit_xor(hash)").alias("content"),
                F.expr("bit_xor(judged)").alias("judged"),
            )
            .collect()
        )
        read = sum(row["rows"] for row in kinds)
        bad = sorted((row for row in kinds if row["kind"]), key=lambda row: (-row["rows"], row["kind"]))
        rejected = sum(row["rows"] for row in bad)
        reasons = {row["kind"]: row["rows"] for row in bad[:10]}
        self._require_enough_good_rows(source, read, rejected, reasons)
        content, judged = (
            f"{read}-{functools.reduce(operator.xor, (row[column] for row in kinds)) & (2**64 - 1):016x}"
            for column in ("content", "judged")
        )
        standings = {name: sum(row["rows"] for row in kinds if row["standing"] == name) for name in STANDINGS}
        written = self._write(lines, source, synthetic, content, judged)
        apply_schema_permissions(self.session)
        return SetupDataResult(
            source=source,
            synthetic=synthetic,
            as_of=self.session.as_of,
            read=read,
            bookings=standings[BOOKING],
            states={row["state"]: row["rows"] for row in kinds if row["state"]},
            rejected=rejected,
            reasons=reasons,
            total=written.total,
            merged=written.merged,
            bookings_version=written.version,
            replaced={name: standings[name] for name in (REPLACED, EQUAL, UPDATED) if standings[name]},
            no_guests=sum(row["no_guests"] for row in kinds),
            no_nights=sum(row["no_nights"] for row in kinds),
            notes=notes,
            # Without rejected rows Delta makes no commit that could say that they were written.
            written=written.bookings or (written.rejected and rejected > 0),
        )

    def _require_enough_good_rows(self, source: str, read: int, rejected: int, reasons: Mapping[str, int]) -> None:
        if read == 0:
            raise DataQualityError(f"{source}: no rows below the header; nothing was written")
        if rejected / read > self.config.max_rejected_share:
            worst = "; ".join(f"{count:,} × {reason}" for reason, count in list(reasons.items())[:3])
            raise DataQualityError(
                f"{source}: {rejected:,} of {read:,} rows are bad ({rejected / read:.1%}, limit "
                f"{self.config.max_rejected_share:.1%}); nothing was written. Most often: {worst}"
            )

    def _write(self, lines: DataFrame, source: str, synthetic: bool, content: str, judged: str) -> Written:
        """Write both tables. `content` identifies the rows of the files, `judged` what was found wrong with each."""
        # Other reasons, other words, or a column that a new release brings, make other tables of the same file.
        words = self.config.status_words.normalized
        rules = repr((judged, words, [column.name for column in BOOKINGS.columns]))
        delivery = Delivery(source, synthetic, content, hashlib.sha256(rules.encode()).hexdigest()[:16])
        return write_delivery(
            self.session.tables,
            delivery,
            lines.where(f"standing = '{BOOKING}'"),
            self._rejected(lines, content),
            snapshot=self.config.mode == "snapshot",
            max_removed_share=self.config.max_removed_share,
        )

    def _rejected(self, lines: DataFrame, content: str) -> DataFrame:
        from pyspark.sql import functions as F

        return lines.where("reason <> ''").select(
            "source_file",
            F.lit(content).alias("source_fingerprint"),
            "source_line",
            "reason",
            "raw_row",
            F.lit(self.session.clock()).cast("timestamp").alias("rejected_at"),
        )

    def _files(self) -> list[SourceFile] | None:
        """Return the files to read, none when all were read before; None when synthetic data is to be made."""
        config, session = self.config, self.session
        if config.source_csv is None:
            return None
        files = list_files(session.spark, session.machine, databricks_path(config.source_csv))
        once = not self._is_named(files) and config.mode == "merge" and holds_real_bookings(session.tables)
        return unread_files(session.tables, files) if once else files

    def _is_named(self, files: Sequence[SourceFile]) -> bool:
        """Say whether `source_csv` names a file or a table, which is read each time; not a folder or a pattern."""
        source = databricks_path(self.config.source_csv or "").removeprefix("file:").rstrip("/")
        return len(files) == 1 and (files[0].form != "file" or files[0].name == source.rsplit("/", 1)[-1])

    def _lines(self, files: Sequence[SourceFile] | None) -> tuple[str, BookingLines]:
        """Return the source's name and its lines."""
        config, session = self.config, self.session
        known = self._known_spellings()
        if files is None:
            name, rows = self._synthetic()
            return name, read_rows(session.spark, rows, name, self.rules, known)
        settings, tolerated = config.file_settings, config.max_rejected_share
        return str(config.source_csv), read_files(session.spark, files, settings, self.rules, known, tolerated)

    def _nothing_new(self, source: str) -> SetupDataResult:
        tables = self.session.tables
        return SetupDataResult(
            source=source,
            synthetic=False,
            as_of=self.session.as_of,
            read=0,
            bookings=0,
            states={},
            rejected=0,
            reasons={},
            total=tables.read(BOOKINGS.name).count(),
            merged=(0, 0),
            bookings_version=tables.version(BOOKINGS.name),
            written=False,
            notes=(("files", "all were read before"),),
        )

    def _known_spellings(self) -> dict[str, set[str]]:
        """Return the spellings of each category that the table has: new bookings take them on."""
        tables = self.session.tables
        if not tables.exists(BOOKINGS.name):
            return {}
        sets = [f"slice(collect_set({name}), 1, {MAX_SPELLINGS}) AS {name}" for name in CATEGORIES]
        found = tables.read(BOOKINGS.name).selectExpr(*sets).collect()[0]
        return {name: set(found[name]) for name in CATEGORIES}

    def _synthetic(self) -> tuple[str, DataFrame]:
        """Return the name of synthetic data, and its lines."""
        if not self.config.allow_synthetic_data:
            raise DataQualityError(
                "source_csv is not set; set it to the path of your bookings, or set allow_synthetic_data to true"
            )
        rows, seed = self.config.synthetic_rows, self.config.synthetic_seed
        self.log.info("making %s synthetic bookings (seed %d)", f"{rows:,}", seed)
        lines, name = [",".join(CSV_HEADER)], f"made_{rows}_seed{seed}"
        for chunk in self._synthetic_chunks():
            lines += synthetic_data.csv_lines(chunk, header=False)
        if self.config.synthetic_open_bookings:
            name += f"_as_of_{self.session.as_of}"
        return f"{name}.csv", self.session.spark.createDataFrame(pd.DataFrame({"raw_row": lines}))

    def _synthetic_chunks(self) -> Iterable[pd.DataFrame]:
        rows, seed = self.config.synthetic_rows, self.config.synthetic_seed
        if self.config.synthetic_open_bookings:
            return [synthetic_data.bookings_as_of(self.session.as_of, rows, seed)]
        return synthetic_data.synthetic_chunks(rows, seed)
