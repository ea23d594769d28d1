"""Predict which bookings will be cancelled, and keep that model in production on Databricks."""
