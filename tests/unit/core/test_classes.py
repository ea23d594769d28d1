"""The classes of a module: its own, and nothing that only looks like one."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from booking_mlops.core.classes import classes_of


def test_aliases_and_imported_classes_are_left_out() -> None:
    module = ModuleType("mine")
    own = type("Own", (), {"__module__": "mine"})
    vars(module).update(own=own, alias=Callable[[int], str], of_own=list[own], imported=ModuleType, value=1)  # type: ignore[valid-type]
    assert classes_of(module) == [own]
