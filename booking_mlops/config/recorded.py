"""The configuration that is recorded with a model version, and how a later release reads it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from booking_mlops.config.loader import build, renamed
from booking_mlops.errors import ConfigError

ConfigT = TypeVar("ConfigT")

VERSION_KEY = "config_version"
CONFIG_VERSION = 2
"""Raised when a recorded key changes its meaning; a key that is only renamed goes into the config class's RENAMED."""
_SECRET_WORDS = re.compile(r"token|secret|password|credential|api_?key", re.IGNORECASE)


def record(config: Any) -> str:
    """Return a task's configuration as JSON, without the values of keys whose name says that they are secret."""
    content = {VERSION_KEY: CONFIG_VERSION, **_without_secrets(dataclasses.asdict(config))}
    return json.dumps(content, indent=2, default=str)


def read_recorded(config_type: type[ConfigT], text: str, where: str) -> ConfigT:
    """Return the part of a recorded configuration that `config_type` describes; what else was recorded is left alone.

    `text` is the JSON of this release or of an earlier one, which had no version in it.

    Raises: ConfigError when it is of a later release, or says something this release does not know.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from error
    version = content.get(VERSION_KEY, 1)
    if version > CONFIG_VERSION:
        raise ConfigError(f"{where}: recorded by a later release, as version {version}; use that release to read it")
    tree = renamed(content, config_type, where)
    known = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    return build(config_type, {key: value for key, value in tree.items() if key in known}, where)


def _without_secrets(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: "(hidden)" if _SECRET_WORDS.search(key) else _without_secrets(value) if isinstance(value, dict) else value
        for key, value in tree.items()
    }
