"""The pages and plots people read: the model report and the monitoring report."""
