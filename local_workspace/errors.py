"""Define the errors of the API, as Databricks answers them, and those of the command line."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than success: HTTP status, Databricks' error code and a message."""

    def __init__(self, status: int, error_code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = error_code
        self.message = message


class UserError(Exception):
    """A mistake on the command line or in the project: the message says what is wrong and what to do."""


def not_found(message: str) -> ApiError:
    """Return the error 404 RESOURCE_DOES_NOT_EXIST."""
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", message)


def invalid(message: str) -> ApiError:
    """Return the error 400 INVALID_PARAMETER_VALUE."""
    return ApiError(400, "INVALID_PARAMETER_VALUE", message)
