"""What a user says about how files of bookings are spelled; what is left out, the files say themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from booking_mlops.core.bookings.dates import order_of
from booking_mlops.core.bookings.file_kinds import ENCODINGS
from booking_mlops.core.bookings.header import KNOWN, PARTS, plain
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.names import nearest
from booking_mlops.errors import ConfigError

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "\\t": "\t"}
_DECIMALS = {"point": ".", "comma": ",", ".": ".", ",": ","}
_COLUMNS = (*(column.name for column in CSV_COLUMNS), *PARTS)


@dataclass(frozen=True)
class FileSettings:
    """How files are spelled.

    `columns` maps a column of `bookings` (or year, month, day of the arrival) to its header in the files.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    date_format: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    separator: str | None = None

    def __post_init__(self) -> None:
        for column, header in self.columns.items():
            if column not in _COLUMNS:
                raise ConfigError(f"columns: {_unknown_column(column, header)}")
        if self.date_format is not None:
            order_of(self.date_format)
        for name, known in (("decimal", _DECIMALS), ("encoding", ENCODINGS)):
            value = getattr(self, name)
            if value is not None and value.lower() not in known:
                raise ConfigError(f"{name}: '{value}' is not known; {nearest(value, known)}")
        if self.separator is not None and len(self._separator or "") != 1:
            raise ConfigError(
                f"separator: '{self.separator}' is no single character; {nearest(self.separator, _SEPARATORS)}"
            )

    @property
    def _separator(self) -> str | None:
        return None if self.separator is None else _SEPARATORS.get(self.separator.lower(), self.separator)

    @property
    def resolved(self) -> FileSettings:
        """The same settings, with characters in place of their names and Python's names of encodings."""
        return FileSettings(
            self.columns,
            self.date_format,
            None if self.decimal is None else _DECIMALS[self.decimal.lower()],
            None if self.encoding is None else ENCODINGS[self.encoding.lower()],
            self._separator,
        )


def _unknown_column(column: str, header: str) -> str:
    if header in _COLUMNS or plain(header) in KNOWN:
        return f"'{column}: {header}' is the wrong way round; write {KNOWN.get(plain(header), header)}: {column}"
    return f"'{column}' is no column of bookings; {nearest(column, _COLUMNS)}"
