"""Bookings: their columns, tables and features, the checks of their quality, and synthetic ones."""
