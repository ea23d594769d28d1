"""Finding the classes of a module."""

from __future__ import annotations

from types import ModuleType
from typing import Any


def classes_of(module: ModuleType) -> list[type[Any]]:
    """Return the classes that a module defines; those it imports are left out.

    Aliases such as `Callable[[int], str]` are no classes, though Python 3.10 says that they are instances of `type`.
    """
    return [
        value
        for value in vars(module).values()
        if issubclass(type(value), type) and value.__module__ == module.__name__
    ]
