"""Install packages into the Python that runs this: with uv, which takes a third of pip's time, else with pip.

    .venv/bin/python devtools/install.py --require-hashes -r requirements/dev.lock

The arguments are those of `pip install`. uv does not read pip's configuration: the index, the certificate and the other
settings found there are handed to it. When uv can't be installed or does not succeed, pip is asked, and has the last
word. This file imports nothing but Python's own modules: it runs before anything is installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

# uv's variable for each of pip's settings, and what uv writes between several values.
VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
}
UV = "uv>=0.9,<1"
# Spark is published as source, so its wheel is made here. Its jars are compressed already: doing that again, and
# undoing it to install them, took 15 of 35 seconds.
NO_COMPRESSION = ("--config-settings-package", "pyspark:--build-option=--compression=stored")


def uv_variables(pip_config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return uv's variables for the output of `pip config list`; those that `environ` has stay as they are.

    As with pip, a section for `install` goes before `global`, and a variable of the environment before both.
    """
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in pip_config.splitlines():
            name, _, value = line.partition("=")
            of, _, setting = name.rpartition(".")
            if of == section and setting in VARIABLES:
                variable, separator = VARIABLES[setting]
                found[variable] = separator.join(str(ast.literal_eval(value)).split())
    return {variable: value for variable, value in found.items() if variable not in environ}


def main(arguments: Sequence[str]) -> int:
    """Install; return the exit code."""
    pip = [sys.executable, "-m", "pip"]
    config = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    environ = {**os.environ, **uv_variables(config, os.environ)}
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable, *NO_COMPRESSION, *arguments]
    there = find_spec("uv") is not None
    if there or subprocess.run([*pip, "install", "-q", UV], check=False).returncode == 0:
        if subprocess.run(uv, env=environ, check=False).returncode == 0:
            return 0
        print("uv did not succeed, so pip tries; it takes longer", file=sys.stderr)
    return subprocess.run([*pip, "install", "-q", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
