"""Finds the files that a path, a folder, a pattern or the name of a table means."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from booking_mlops.errors import DataQualityError
from booking_mlops.io.machine import Machine

if TYPE_CHECKING:
    from pyspark.errors import AnalysisException
    from pyspark.sql import SparkSession

Form = Literal["file", "delta", "table"]

_NAME = r"`?[A-Za-z_][\w-]*`?"
_TABLE = re.compile(rf"{_NAME}\.{_NAME}(\.{_NAME})?")
_FILE_ENDINGS = ("csv", "tsv", "txt", "dat", "gz", "bz2", "zip", "parquet", "xlsx", "xls", "ods", "json", "bak")
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
    """Return the files that `source` means, the one changed first in front; of the same time, by name.

    `source` is a file, a folder, a pattern or a table's name. A path that exists is that path, whatever signs its name
    has; a folder's files are those directly in it whose names begin with neither `.`, `_` nor `~`.

    Raises: DataQualityError when there is none.
    """
    local = local_path(source, machine)
    found = local_files(local) if local is not None else _remote_files(spark, source)
    if not found and _is_table_name(source):
        found = _table(spark, source)
    if not found:
        what = "no files in this folder" if local is not None and local.is_dir() else "no such file"
        raise DataQualityError(f"{source}: {what}; put Booking.csv there or change source_csv")
    names = Counter(file.name for file in found)
    # Of different folders: files that share a name are called by their paths.
    named = (replace(file, name=file.path) if names[file.name] > 1 else file for file in found)
    return sorted(named, key=lambda file: (file.modified, file.name))


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
    """Return the files of this machine that a path, a folder or a pattern means; none when there are none."""
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
    # Spark reaches volumes by Databricks' own file system.
    scheme = "dbfs" if path.is_relative_to("/Volumes") else "file"
    return SourceFile(f"{scheme}:{os.fspath(path)}", path.name, modified, stat.st_size)


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
        last = spark.sql(f"DESCRIBE HISTORY {name} LIMIT 1").collect()[0]
    except AnalysisException:
        # A view, or a table of another format: nothing says when it changed.
        return [SourceFile(name, shown, datetime.now(timezone.utc), 0, "table")]
    return [SourceFile(name, shown, _in_utc(last["timestamp"]), int(last["version"]), "table")]


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


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
        listed = spark.read.format("binaryFile").load(path).select("path", "modificationTime", "length").collect()
    except AnalysisException as error:
        condition = condition_of(error) or ""
        # A cluster refuses to list a Delta table's files, which `_remote_delta` finds.
        if condition != "PATH_NOT_FOUND" and "DELTA" not in condition:
            raise
        return []
    files = (SourceFile(row[0], row[0].rsplit("/", 1)[-1], _in_utc(row[1]), row[2]) for row in listed)
    return [file for file in files if _is_data(file.name)]


def _remote_delta(spark: SparkSession, source: str) -> list[SourceFile]:
    from pyspark.errors import AnalysisException

    if "`" in source:
        return []
    try:
        last = spark.sql(f"DESCRIBE HISTORY delta.`{source}` LIMIT 1").collect()[0]
    except AnalysisException:
        return []
    name = source.rstrip("/").rsplit("/", 1)[-1]
    return [SourceFile(source, name, _in_utc(last["timestamp"]), int(last["version"]), "delta")]


def spark_path(path: str) -> str:
    """Return a path so that Spark takes every sign of it as it is: it would take some as a pattern."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def condition_of(error: AnalysisException) -> str | None:
    """Return the error's class as Spark names it; Spark 4 has renamed the method."""
    ask = getattr(error, "getCondition", error.getErrorClass)
    condition: str | None = ask()
    return condition
