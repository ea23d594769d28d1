"""Run jobs: check their settings, record their runs, and follow each run's tasks until they have ended."""
