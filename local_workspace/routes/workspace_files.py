"""Answer the Workspace API as far as dbx calls it."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

blueprint = Blueprint("workspace_files", __name__)


@blueprint.post("/api/2.0/workspace/mkdirs")
def make_directory() -> Response:
    """Accept a directory's name; nothing is kept, because MLflow's experiments need no directory here."""
    return jsonify({})
