"""Serve a Databricks workspace on one machine: a stand-in for its control plane, around MLflow's own server."""
