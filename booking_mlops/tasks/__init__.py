"""One file and one class for each task."""
