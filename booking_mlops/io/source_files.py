"""Finds the files that a path, a folder, a pattern or the name of a table means."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from booking_mlops.errors import DataQualityError
from booking_mlops.io.machine import Machine

if TYPE_CHECKING:
    from pyspark.errors import AnalysisException
    from pyspark.sql import Row, SparkSession

Form = Literal["file", "delta", "table"]

_NAME = r"`?[A-Za-z_][\w-]*`?"
_TABLE = re.compile(rf"{_NAME}\.{_NAME}(\.{_NAME})?")
_FILE_ENDINGS = ("csv", "tsv", "txt", "dat", "gz", "bz2", "zip", "parquet", "xlsx", "xls", "ods", "json", "bak")
_TOGETHER = timedelta(seconds=0.5)
_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_GLOB = "*?[]{}\\"
_DELTA_LOG = "_delta_log"
_DATABRICKS_ROOTS = ("/Volumes/", "/dbfs/", "/FileStore/")


@dataclass(frozen=True)
class SourceFile:
    """A file of bookings, or a Delta table that is one.

    `path` is what Spark opens, `name` what people call it, `modified` when it was changed last. A Delta table's `size`
    is its version.
    """

    path: str
    name: str
    modified: datetime
    size: int
    form: Form = "file"


def list_files(spark: SparkSession, machine: Machine, source: str) -> list[SourceFile]:
    """Return the files that `source` means, as `in_order` puts them.

    `source` is a file, a folder, a pattern or a table's name. A path that exists is that path, whatever signs its name
    has; a folder's files are those directly in it whose names begin with neither `.`, `_` nor `~`.

    Raises: DataQualityError when there is none, or it can't be looked at.
    """
    local = local_path(source, machine)
    found = local_files(local) if local is not None else _remote_files(spark, source)
    if not found and _is_table_name(source):
        found = _table(spark, source)
    if not found:
        raise DataQualityError(f"{source}: {_what_is_there(local)}; put Booking.csv there or change source_csv")
    names = Counter(file.name for file in found)
    # Of different folders: files that share a name are called by their paths.
    named = (replace(file, name=file.path) if names[file.name] > 1 else file for file in found)
    return in_order(named)


def in_order(files: Iterable[SourceFile]) -> list[SourceFile]:
    """Return the files, the one changed first in front.

    Files that were changed within `_TOGETHER` of one another were copied or unpacked together: they are by name.
    """
    batches: list[list[SourceFile]] = []
    for file in sorted(files, key=lambda file: file.modified):
        if batches and file.modified - batches[-1][-1].modified <= _TOGETHER:
            batches[-1].append(file)
        else:
            batches.append([file])
    return [file for batch in batches for file in sorted(batch, key=lambda file: file.name)]


def _what_is_there(path: Path | None) -> str:
    if path is not None and path.is_dir():
        return "no files in this folder"
    # Each file is read twice.
    return "a pipe or a device, not a file" if path is not None and path.exists() else "no such file"


def local_path(source: str, machine: Machine) -> Path | None:
    """Return the path on this machine; None when Spark only knows where it is."""
    if source.startswith("file:"):
        return Path(re.sub("^file:(//)?", "", source))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", source):
        return None
    if machine.on_cluster and source.startswith(_DATABRICKS_ROOTS):
        return None
    return Path(source).expanduser().absolute()


def local_files(path: Path) -> list[SourceFile]:
    """Return the files of this machine that a path, a folder or a pattern means; none when there are none.

    Raises: DataQualityError when they can't be looked at.
    """
    try:
        return _local_files(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise DataQualityError(f"{path}: {why}; nothing was written") from error


def _local_files(path: Path) -> list[SourceFile]:
    if path.is_file():
        return [_local(path)]
    if path.is_dir():
        if (path / _DELTA_LOG).is_dir():
            return _delta(path)
        return [_local(child) for child in path.iterdir() if child.is_file() and _is_data(child.name)]
    # A folder that exists is no pattern, whatever signs its name has.
    there = next((parent for parent in path.parents if parent.is_dir()), None)
    if there is None:
        return []
    pattern = path.relative_to(there).as_posix()
    if not any(sign in pattern for sign in _GLOB):
        return []
    return [_local(match) for match in there.glob(pattern) if match.is_file() and _is_data(match.name)]


def _is_data(name: str) -> bool:
    return not name.startswith((".", "_", "~"))


def _local(path: Path) -> SourceFile:
    stat = path.stat()
    modified = datetime.fromtimestamp(stat.st_mtime, timezone.utc)
    return SourceFile(f"file:{os.fspath(path)}", path.name, modified, stat.st_size)


def _delta(path: Path) -> list[SourceFile]:
    commits = sorted(log for log in (path / _DELTA_LOG).glob("*.json") if log.stem.isdigit())
    if not commits:
        return []
    modified = datetime.fromtimestamp(commits[-1].stat().st_mtime, timezone.utc)
    return [SourceFile(f"file:{path}", path.name, modified, int(commits[-1].stem), "delta")]


def _is_table_name(source: str) -> bool:
    return bool(_TABLE.fullmatch(source)) and source.rsplit(".", 1)[-1].lower() not in _FILE_ENDINGS


def _table(spark: SparkSession, name: str) -> list[SourceFile]:
    from pyspark.errors import AnalysisException

    try:
        if not spark.catalog.tableExists(name):
            return []
    except AnalysisException:
        return []
    shown = name.replace("`", "")
    try:
        last = _last_commit(spark, name)
    except AnalysisException:
        # A view, or a table of another format: nothing says when it changed.
        return [SourceFile(name, shown, datetime.now(timezone.utc), 0, "table")]
    return [SourceFile(name, shown, _moment(last["micros"]), int(last["version"]), "table")]


def _last_commit(spark: SparkSession, table: str) -> Row:
    history = spark.sql(f"DESCRIBE HISTORY {table} LIMIT 1")
    return history.selectExpr("version", "unix_micros(timestamp) AS micros").collect()[0]


def _moment(micros: int) -> datetime:
    """Return a time that Spark gives as a number: as a time it would be one of the machine's time zone."""
    return _EPOCH + timedelta(microseconds=micros)


def _remote_files(spark: SparkSession, source: str) -> list[SourceFile]:
    """Return the files that only Spark reaches: first taken as a path as it is, then as a pattern."""
    found = _listed(spark, spark_path(source))
    if not found and any(sign in source for sign in _GLOB):
        found = _listed(spark, source)
    if len(found) != 1 or found[0].path.rstrip("/").rsplit("/", 1)[-1] != source.rstrip("/").rsplit("/", 1)[-1]:
        table = _remote_delta(spark, source)
        found = table or found
    return found


def _listed(spark: SparkSession, path: str) -> list[SourceFile]:
    from pyspark.errors import AnalysisException

    try:
        # Of the files only the name, time and size are asked for: their content is not read.
        found = spark.read.format("binaryFile").load(path)
        listed = found.selectExpr("path", "unix_micros(modificationTime)", "length").collect()
    except AnalysisException as error:
        condition = condition_of(error) or ""
        # A cluster refuses to list a Delta table's files, which `_remote_delta` finds.
        if condition != "PATH_NOT_FOUND" and "DELTA" not in condition:
            raise
        return []
    files = (SourceFile(row[0], row[0].rsplit("/", 1)[-1], _moment(row[1]), row[2]) for row in listed)
    return [file for file in files if _is_data(file.name)]


def _remote_delta(spark: SparkSession, source: str) -> list[SourceFile]:
    from pyspark.errors import AnalysisException

    if "`" in source:
        return []
    try:
        last = _last_commit(spark, f"delta.`{source}`")
    except AnalysisException:
        return []
    name = source.rstrip("/").rsplit("/", 1)[-1]
    return [SourceFile(source, name, _moment(last["micros"]), int(last["version"]), "delta")]


def spark_path(path: str) -> str:
    """Return a path so that Spark takes every sign of it as it is: it would take some as a pattern."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def condition_of(error: AnalysisException) -> str | None:
    """Return the error's class as Spark names it; Spark 4 has renamed the method."""
    ask = getattr(error, "getCondition", error.getErrorClass)
    condition: str | None = ask()
    return condition
