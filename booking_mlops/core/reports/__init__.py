"""The model report and the monitoring report: HTML pages with plots."""
