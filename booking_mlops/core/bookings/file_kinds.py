"""What a file is by its first bytes, and what to do when it is none that can be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from booking_mlops.errors import DataQualityError

Kind = Literal["text", "parquet"]

ENCODINGS: Mapping[str, str] = {
    **dict.fromkeys(("utf-8", "utf8", "utf-8-sig"), "utf-8"),
    **dict.fromkeys(("latin-1", "latin1", "iso-8859-1", "iso8859-1"), "latin-1"),
    **dict.fromkeys(("windows-1252", "cp1252", "ansi"), "cp1252"),
    **dict.fromkeys(("utf-16", "utf16"), "utf-16"),
    **dict.fromkeys(("utf-16-le", "utf-16le", "utf-16 le"), "utf-16-le"),
    **dict.fromkeys(("utf-16-be", "utf-16be", "utf-16 be"), "utf-16-be"),
}
"""Spellings of an encoding, and the name it has in Python."""

UTF_8 = "utf-8"
_UTF_16_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}

_SAVE_AS_CSV = "save it as CSV"
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook: unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", f"an old Excel workbook (.xls): {_SAVE_AS_CSV}"),
    (b"%PDF", f"a PDF document: {_SAVE_AS_CSV} where it was made"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"\xfd7zXZ", "compressed with xz: unpack it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it, or compress it with gzip"),
    (b"ORC", "an ORC file: save it as Parquet or CSV"),
    (b"Obj\x01", "an Avro file: save it as Parquet or CSV"),
    (b"SQLite format 3", f"an SQLite database: {_SAVE_AS_CSV}"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"{\\rtf", f"an RTF document: {_SAVE_AS_CSV}"),
)
_MARKUP: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype", "an HTML page, perhaps a login page: download the file itself"),
    (b"<html", "an HTML page, perhaps a login page: download the file itself"),
    (b"<?xml", f"an XML file: {_SAVE_AS_CSV}"),
    (b"{", f"a JSON file: {_SAVE_AS_CSV}"),
    (b"[", f"a JSON file: {_SAVE_AS_CSV}"),
)
_COMPRESSED: Mapping[bytes, tuple[str, str]] = {b"\x1f\x8b": ("gzip", ".gz"), b"BZh": ("bzip2", ".bz2")}


@dataclass(frozen=True)
class FileKind:
    """How to open a file; `encoding` is Python's name of that of a text."""

    kind: Kind
    encoding: str = UTF_8


def compression(head: bytes) -> str | None:
    """Return the ending that files compressed like this one have; None for one that is not compressed."""
    return next((ending for magic, (_, ending) in _COMPRESSED.items() if head.startswith(magic)), None)


def kind_of(head: bytes, source: str, encoding: str | None) -> FileKind:
    """Return how to open a file that begins with `head`, unpacked; `encoding` is what the configuration says.

    Raises: DataQualityError that names what the file is and what to do, when it is neither text nor Parquet.
    """
    if head.startswith(b"PAR1"):
        return FileKind("parquet")
    for magic, what in _OTHERS:
        if head.startswith(magic):
            if magic == b"PK\x03\x04":
                what = _zip(head)
            raise DataQualityError(f"{source}: this is {what}; nothing was written")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in _MARKUP:
        if start.startswith(magic):
            raise DataQualityError(f"{source}: this is {what}; nothing was written")
    mark = _UTF_16_MARKS.get(head[:2])
    if encoding in (None, "utf-16") and mark:
        return FileKind("text", mark)
    if encoding is not None:
        return FileKind("text", "utf-16-le" if encoding == "utf-16" else encoding)
    if b"\x00" in head:
        raise DataQualityError(f"{source}: {_with_noughts(head)}; nothing was written")
    return FileKind("text")


def _zip(head: bytes) -> str:
    """Say what kind of zip archive it is; Excel's and LibreOffice's documents are some."""
    if b"[Content_Types].xml" in head or b"xl/" in head:
        return f"an Excel workbook (.xlsx): {_SAVE_AS_CSV} (UTF-8)"
    if b"opendocument" in head:
        return f"an OpenDocument spreadsheet (.ods): {_SAVE_AS_CSV} (UTF-8)"
    return "a zip archive: unpack it, or compress the file with gzip"


def _with_noughts(head: bytes) -> str:
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 4:
        name = "utf-16-le" if odd > even else "utf-16-be"
        return f"this looks like UTF-16 text: set encoding to {name}, or save it as UTF-8"
    return "this is no text, nor Parquet: save it as CSV"


def text_of(head: bytes, kind: FileKind, lines: int) -> list[str]:
    """Return the first few lines of a text that begins with `head`."""
    text = head.decode(kind.encoding, errors="replace").removeprefix("\ufeff")
    # As Spark splits them: Python knows more ends of a line.
    found = re.split("\r\n|\n|\r", text)
    return [line for line in found if line or len(found) > 1][:lines]
