"""Every error the project raises on purpose.

Each message is one line that says what is wrong, where, and what to do. Anything that is not a
`BookingMlopsError` is a bug and keeps its traceback.
"""

from __future__ import annotations


class BookingMlopsError(Exception):
    """Base of all expected failures: shown as one line, exit code 1."""


class ConfigError(BookingMlopsError):
    """A configuration file, key or value can't be used."""


class DataQualityError(BookingMlopsError):
    """The data is not fit for use; nothing was written."""


class MissingTable(BookingMlopsError):
    """A table this task reads does not exist yet."""


class WriteFailed(BookingMlopsError):
    """A table could not be written; it is as it was."""


class NoChampion(BookingMlopsError):
    """The registry has no champion for the model."""


class ApprovalRefused(BookingMlopsError):
    """The version does not wait for approval, or is no better than the champion."""


class RegistryError(BookingMlopsError):
    """The tracking server or the model registry can't be reached or refused a request."""


class IncompatibleModel(BookingMlopsError):
    """The model and the feature table don't fit together."""


class RuntimeSetupError(BookingMlopsError):
    """Spark, Java or the Delta libraries can't be started on this machine."""


class WorkspaceError(BookingMlopsError):
    """The Databricks workspace can't be reached or refused a request."""


class BrokenPromise(BookingMlopsError):
    """The tables and the registry are not what the project promises."""


class NotReproducible(BookingMlopsError):
    """A version can't be trained again, or did not come out the same."""


class DriftAlarm(BookingMlopsError):
    """The bookings have moved away from what the champion was trained on."""
