"""The installer: what it takes from pip's configuration, and that pip has the last word."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from devtools import install
from tests.conftest import ROOT

CONFIG = """\
:env:.find-links='/wheels /more'
global.cert='/etc/ca.pem'
global.extra-index-url='\\nhttps://a/simple\\nhttps://b/simple'
global.index-url='https://mirror/simple'
global.trusted-host='mirror'
install.index-url='https://other/simple'
download.index-url='https://third/simple'
"""


def test_uv_gets_what_pip_is_configured_with() -> None:
    assert install.uv_variables(CONFIG, {}) == {
        "UV_DEFAULT_INDEX": "https://other/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "mirror",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
    assert "UV_INDEX" not in install.uv_variables(CONFIG, {"UV_INDEX": "https://own/simple"})
    assert install.uv_variables(CONFIG + ":env:.index-url='https://env/simple'\n", {})["UV_DEFAULT_INDEX"] == (
        "https://env/simple"
    )
    assert install.uv_variables("", {}) == {}


@pytest.mark.parametrize(
    ("there", "fails", "code", "asked"),
    [
        (True, (), 0, ["pip config", "uv pip"]),
        (True, ("uv pip",), 0, ["pip config", "uv pip", "pip install"]),
        (False, (), 0, ["pip config", "pip install uv", "uv pip"]),
        (False, ("uv pip",), 0, ["pip config", "pip install uv", "uv pip", "pip install"]),
        (False, ("pip install uv",), 0, ["pip config", "pip install uv", "pip install"]),
        (False, ("uv pip", "pip install"), 1, ["pip config", "pip install uv", "uv pip", "pip install"]),
    ],
)
def test_pip_is_asked_when_uv_does_not_succeed(
    monkeypatch: pytest.MonkeyPatch, there: bool, fails: tuple[str, ...], code: int, asked: list[str]
) -> None:
    seen: list[str] = []

    def run(command: list[str], **_: Any) -> Any:
        words = " ".join(command[2:4])
        seen.append("pip install uv" if install.UV in command else words)
        return subprocess.CompletedProcess(command, int(seen[-1] in fails), stdout="")

    monkeypatch.setattr(install, "find_spec", lambda name: name if there else None)
    monkeypatch.setattr(subprocess, "run", run)
    assert install.main(["wheel"]) == code
    assert seen == asked


def test_what_make_runs_keeps_what_python_compiles() -> None:
    makefile = "include Makefile\nshow: ; @echo found: $$PYTHONDONTWRITEBYTECODE"
    shown = subprocess.run(
        ["make", "-s", "-f", "-", "show"], cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, input=makefile,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shown.stdout == "found:\n"
