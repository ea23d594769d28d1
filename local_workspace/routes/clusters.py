"""Answer the Clusters API: list, start and terminate the all-purpose clusters."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from local_workspace.errors import ApiError
from local_workspace.routes.common import all_workspaces, parameters, text, this_workspace
from local_workspace.runs.states import now
from local_workspace.store import CLUSTER, Document

blueprint = Blueprint("clusters", __name__)

# The long-term runtimes that the wheel is for. Tasks run on this machine's Python and Spark whichever a cluster names.
_RUNTIMES = {
    "18.x-cpu-ml-scala2.13": "18 LTS ML (includes Apache Spark 4.1.0, Scala 2.13)",
    "17.3.x-cpu-ml-scala2.13": "17.3 LTS ML (includes Apache Spark 4.0.0, Scala 2.13)",
    "16.4.x-cpu-ml-scala2.12": "16.4 LTS ML (includes Apache Spark 3.5.2, Scala 2.12)",
    "15.4.x-cpu-ml-scala2.12": "15.4 LTS ML (includes Apache Spark 3.5.0, Scala 2.12)",
}
_NODE_TYPE: Document = {
    "node_type_id": "m5d.xlarge",
    "instance_type_id": "m5d.xlarge",
    "description": "m5d.xlarge",
    "category": "General Purpose",
    "memory_mb": 16384,
    "num_cores": 4.0,
}


@blueprint.get("/api/2.0/clusters/list")
@blueprint.get("/api/2.1/clusters/list")
def list_clusters() -> Response:
    """List the clusters."""
    return jsonify({"clusters": all_workspaces().store.all(this_workspace(), CLUSTER)})


@blueprint.get("/api/2.0/clusters/get")
@blueprint.get("/api/2.1/clusters/get")
def get() -> Response:
    """Return a cluster."""
    return jsonify(_cluster())


@blueprint.post("/api/2.0/clusters/start")
@blueprint.post("/api/2.1/clusters/start")
def start() -> Response:
    """Start a cluster."""
    store, cluster_id = all_workspaces().store, _cluster()["cluster_id"]
    store.change(this_workspace(), CLUSTER, cluster_id, state="RUNNING", start_time=now())
    return jsonify({})


@blueprint.post("/api/2.0/clusters/delete")
@blueprint.post("/api/2.1/clusters/delete")
def terminate() -> Response:
    """Terminate a cluster; it stays in the list."""
    all_workspaces().store.change(this_workspace(), CLUSTER, _cluster()["cluster_id"], state="TERMINATED")
    return jsonify({})


@blueprint.get("/api/2.0/clusters/spark-versions")
@blueprint.get("/api/2.1/clusters/spark-versions")
def spark_versions() -> Response:
    """List the runtimes that clusters may have, newest first."""
    return jsonify({"versions": [{"key": key, "name": name} for key, name in _RUNTIMES.items()]})


@blueprint.get("/api/2.0/clusters/list-node-types")
@blueprint.get("/api/2.1/clusters/list-node-types")
def list_node_types() -> Response:
    """List the machines that clusters may have."""
    return jsonify({"node_types": [_NODE_TYPE]})


@blueprint.get("/api/2.0/policies/clusters/list")
def list_policies() -> Response:
    """List the cluster policies, of which there are none."""
    return jsonify({"policies": [], "total_count": 0})


def _cluster() -> Document:
    """Return the cluster that the request names."""
    fields = parameters()
    cluster = all_workspaces().store.get(this_workspace(), CLUSTER, text(fields, "cluster_id"))
    if cluster is None:
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Cluster {fields['cluster_id']} does not exist")
    return cluster
