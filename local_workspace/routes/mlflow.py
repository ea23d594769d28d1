"""Answer Databricks' additions to MLflow's API."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from local_workspace.errors import not_found
from local_workspace.mlflow_server import has_registered_model
from local_workspace.routes.common import parameters, text, this_workspace

blueprint = Blueprint("mlflow", __name__)


@blueprint.get("/api/2.0/mlflow/databricks/registered-models/get")
def get_registered_model() -> Response:
    """Return the id of a registered model, by which its permissions are set; here it is its name."""
    name = text(parameters(), "name")
    if not has_registered_model(this_workspace(), name):
        raise not_found(f"Registered Model with name={name} not found")
    return jsonify({"registered_model_databricks": {"id": name, "name": name}})
