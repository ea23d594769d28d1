"""Model families: one file each, found by looking into this folder, so that a new family is one new file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from booking_mlops.core.classes import classes_of
from booking_mlops.core.model.families.family import ModelFamily
from booking_mlops.core.names import nearest
from booking_mlops.errors import ConfigError

DEFAULT_KIND = "random_forest"


def _families() -> dict[str, type[ModelFamily]]:
    """Return each concrete family by its kind."""
    found: dict[str, type[ModelFamily]] = {}
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        for one in classes_of(module):
            if issubclass(one, ModelFamily) and not inspect.isabstract(one):
                found[one.kind] = one
    return found


def family_kinds() -> tuple[str, ...]:
    """Return the kinds a configuration can name, in alphabetical order."""
    return tuple(sorted(_families()))


def family_type(kind: str) -> type[ModelFamily]:
    """Return the configuration class of a kind.

    Raises: ConfigError that names the nearest known kind.
    """
    families = _families()
    if kind not in families:
        raise ConfigError(f"model.kind: '{kind}' is not a model family; {nearest(kind, families)}")
    return families[kind]


def default_family() -> ModelFamily:
    """Return the family a configuration has when it names none, with its default hyperparameters."""
    found: type[Any] = family_type(DEFAULT_KIND)
    family: ModelFamily = found()
    return family
