"""Running independent steps at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def run_concurrently(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Run two actions in threads of their own and return both results.

    Both are waited for; then the error of the first that failed is raised.
    """
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(first), pool.submit(second)
    return one.result(), two.result()
