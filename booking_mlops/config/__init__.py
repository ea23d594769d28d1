"""Typed configuration: task YAML, overridden by the environment's YAML, overridden by the command line."""
