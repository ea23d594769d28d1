"""The wheel's entry points: `booking_mlops.entrypoints:model_train` is the program of the task `model_train`.

There is one for every file in `tasks`, made when it is asked for; setup.py lists the files.
"""

from __future__ import annotations

from collections.abc import Callable

from booking_mlops.runner import main_of
from booking_mlops.tasks import task_keys


def __getattr__(name: str) -> Callable[..., None]:
    """Return the program of a task, by its key."""
    if name not in task_keys():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: booking_mlops/tasks has no {name}.py")
    return main_of(name)
