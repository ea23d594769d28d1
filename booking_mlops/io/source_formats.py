"""Opens files of bookings: text, packed or not, in several encodings, and Parquet, Delta and tables."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from booking_mlops.errors import DataQualityError
from booking_mlops.io.source_files import SourceFile, spark_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

HEAD = 65_536
"""Bytes of a file that are looked at before it is opened."""

_OPENERS: Mapping[str, Callable[[Path], BufferedIOBase]] = {".gz": gzip.GzipFile, ".bz2": bz2.BZ2File}

# What windows-1252 has where Latin-1 has control characters.
_WINDOWS = bytes(range(0x80, 0xA0)).decode("cp1252", errors="replace").replace("\ufffd", "?")
_LATIN = bytes(range(0x80, 0xA0)).decode("latin-1")
_LINE_ENDS = {"utf-16-le": "\n\0", "utf-16-be": "\0\n"}


def ending(file: SourceFile) -> str:
    """Return the ending of a packed file's name; '' for any other."""
    return next((one for one in _OPENERS if file.path.lower().endswith(one)), "")


def raw_head(spark: SparkSession, file: SourceFile) -> bytes:
    """Return the first bytes of a file, as they are; of one that only Spark reaches, as `head` does.

    Raises: DataQualityError when it can't be read.
    """
    return _local_head(file, packed=False) if file.path.startswith("file:") else head(spark, file)


def head(spark: SparkSession, file: SourceFile) -> bytes:
    """Return the first bytes of a file, unpacked.

    Raises: DataQualityError when it can't be read.
    """
    if file.path.startswith("file:"):
        return _local_head(file, packed=True)
    rows = spark.read.text(spark_path(file.path)).selectExpr("CAST(value AS BINARY) AS line").limit(5).collect()
    return b"\n".join(bytes(row["line"]) for row in rows)[:HEAD] + (b"\n" if rows else b"")


def _local_head(file: SourceFile, *, packed: bool) -> bytes:
    path = Path(file.path.removeprefix("file:"))
    try:
        with _OPENERS[ending(file)](path) if packed and ending(file) else path.open("rb") as opened:
            return opened.read(HEAD)
    except (OSError, EOFError, zlib.error) as error:
        raise DataQualityError(f"{file.name}: can't be read: {error}; nothing was written") from error


def open_text(spark: SparkSession, files: Sequence[SourceFile], encoding: str) -> DataFrame:
    """Return the lines of text files as column `raw_row`, in order, whatever their encoding.

    Of several files, `_path` and `_block` say which file a line is from, and where the part of it begins that Spark
    reads at once.
    """
    paths = [spark_path(file.path) for file in files]
    value = "value"
    if encoding in _LINE_ENDS:
        # Spark splits the bytes where these two are, and leaves them as they are.
        text = spark.read.text(paths, lineSep=_LINE_ENDS[encoding])
        name = f"UTF-16{encoding[-2:].upper()}"
        decoded = f"decode(CAST(value AS BINARY), '{name}')"
        value = f"trim(TRAILING '\r' FROM trim(LEADING '\ufeff' FROM {decoded}))"
    else:
        text = spark.read.text(paths)
        if encoding != "utf-8":
            value = "decode(CAST(value AS BINARY), 'ISO-8859-1')"
        if encoding == "cp1252":
            value = f"translate({value}, '{_LATIN}', '{_WINDOWS}')"
    return _placed(text, f"{value} AS raw_row", files)


def _placed(rows: DataFrame, columns: str, files: Sequence[SourceFile]) -> DataFrame:
    if len(files) == 1:
        return rows.selectExpr(columns)
    return rows.selectExpr(columns, "_metadata.file_path AS _path", "_metadata.file_block_start AS _block")


def path_of_row(path: str) -> str:
    """Return the path of a file that `_path` names: Spark writes its signs as in an address, and `file:///`."""
    return re.sub("^file:/+", "file:/", unquote(path))


def open_table(spark: SparkSession, files: Sequence[SourceFile]) -> DataFrame:
    """Return the rows of Parquet files that have the same columns, of a Delta table or of one of the catalog."""
    file = files[0]
    if file.form == "table":
        return spark.table(file.path)
    if file.form == "delta":
        # Delta takes a path as it is.
        return spark.read.format("delta").load(file.path)
    return _placed(spark.read.parquet(*(spark_path(one.path) for one in files)), "*", files)
