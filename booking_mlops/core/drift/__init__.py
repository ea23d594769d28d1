"""Measures of how far new bookings have moved from those a model was trained on."""
