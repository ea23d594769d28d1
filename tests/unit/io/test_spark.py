from __future__ import annotations

import pytest

from booking_mlops.io.spark import names_differ


@pytest.mark.parametrize(
    ("python", "system", "differ"),
    [
        ("utf-8", "UTF-8", False),
        ("utf-8", "utf8", False),
        # The locale C: Python takes names of files as UTF-8 in it, Java as ASCII.
        ("utf-8", "ANSI_X3.4-1968", True),
        ("iso8859-1", "ISO-8859-1", False),
    ],
)
def test_java_is_to_name_files_as_python_does(python: str, system: str, differ: bool) -> None:
    assert names_differ(python, system) == differ
