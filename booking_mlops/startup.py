"""What makes a run start and end sooner; docs/adr/0010-start-up.md has the figures that pay for each."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import threading

_SLOW_IMPORTS = (
    *("sklearn.compose", "sklearn.ensemble", "sklearn.inspection", "sklearn.metrics"),
    *("mlflow.sklearn", "mlflow.models", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
)


def import_in_background() -> None:
    """Import what later tasks need in a thread: the first task needs no more than one core."""

    def load() -> None:
        for name in _SLOW_IMPORTS:
            # A module that can't be imported fails in the task that needs it.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)

    threading.Thread(target=load, daemon=True).start()


def spare_garbage_collection() -> None:
    """Collect garbage seldom, and not at the end: a program that imports this much and ends soon has little of it."""
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
