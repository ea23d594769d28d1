"""Typed configuration: a task's YAML, overridden by the environment's YAML, overridden by the command line."""
