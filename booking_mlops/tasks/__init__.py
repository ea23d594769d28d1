"""The tasks: one file each, with its configuration, its result and its class.

A file here is all it takes: the key in YAML is the file's name, the command and the wheel's entry point are the same
with dashes. `task.py` holds what they have in common.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from booking_mlops.core.classes import classes_of
from booking_mlops.errors import ConfigError
from booking_mlops.tasks.task import Task


def task_keys() -> tuple[str, ...]:
    """Return the key of every task, such as `model_train`, in alphabetical order; imports none of them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "task"))


def task_type(key: str) -> type[Task[Any, Any]]:
    """Return the task's class.

    Raises: ConfigError when the file does not hold exactly one task, or the task has another name than the file.
    """
    module = importlib.import_module(f"{__name__}.{key}")
    found = [one for one in classes_of(module) if issubclass(one, Task)]
    if len(found) != 1:
        raise ConfigError(
            f"{module.__file__}: holds {len(found)} subclasses of Task, not one; what tasks share belongs in services"
        )
    if found[0].key() != key:
        raise ConfigError(f"{module.__file__}: the task is named {found[0].name}; name the file {found[0].key()}.py")
    return found[0]


def task_types() -> tuple[type[Task[Any, Any]], ...]:
    """Return the class of every task, in the order of their keys."""
    return tuple(task_type(key) for key in task_keys())
