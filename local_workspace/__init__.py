"""A Databricks workspace on one machine: its control plane, around MLflow's own server. A developer's tool."""
