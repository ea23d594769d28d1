"""Answer errors in the form that Databricks uses: a JSON object with an error code and a message."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from local_workspace.errors import ApiError

log = logging.getLogger(__name__)


def register(flask: Flask) -> None:
    """Make the application answer every error in Databricks' form."""
    flask.register_error_handler(ApiError, _api_error)
    flask.register_error_handler(HTTPException, _http_error)
    flask.register_error_handler(Exception, _unexpected_error)


def _answer(status: int, error_code: str, message: str) -> tuple[Response, int]:
    return jsonify({"error_code": error_code, "message": message}), status


def _api_error(error: ApiError) -> tuple[Response, int]:
    return _answer(error.status, error.error_code, error.message)


def _http_error(error: HTTPException) -> tuple[Response, int]:
    if error.code in (404, 405):
        log.warning("%s %s is not an endpoint of local_workspace", request.method, request.path)
        return _answer(404, "ENDPOINT_NOT_FOUND", f"No API found for '{request.method} {request.path}'")
    return _answer(error.code or 400, "BAD_REQUEST", str(error.description))


def _unexpected_error(error: Exception) -> tuple[Response, int]:
    log.exception("%s %s", request.method, request.path)
    return _answer(500, "INTERNAL_ERROR", str(error))
