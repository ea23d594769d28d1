"""Delta's Java libraries: those of the installed `delta-spark`, fetched once into this Python environment."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import re
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from booking_mlops.errors import RuntimeSetupError
from booking_mlops.io.java import Java
from booking_mlops.io.machine import shared_folder

log = logging.getLogger(__name__)

MAVEN_VARIABLE = "BOOKING_MAVEN_URL"
_GROUP = "io.delta"
_RESOLVER_SECONDS = 600
# The variables that requests and OpenSSL know.
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def delta_jars(environ: Mapping[str, str], java: Java) -> list[Path]:
    """Return the Delta libraries of the installed `delta-spark`, fetched when they are not there yet.

    They come from the Maven repository that BOOKING_MAVEN_URL names, otherwise from where Spark's own resolver
    (`spark.jars.packages`) gets them. Once they are there Spark resolves nothing when it starts.

    Raises: RuntimeSetupError.
    """
    import pyspark

    try:
        version = importlib.metadata.version("delta-spark")
    except importlib.metadata.PackageNotFoundError:
        raise RuntimeSetupError("delta-spark is not installed: pip install 'booking_mlops[local]'") from None
    home = Path(pyspark.__file__).parent
    artifacts = (delta_artifact(version, pyspark.__version__, scala_version(home)), "delta-storage")
    folder = shared_folder() / "jars"
    jars = [folder / f"{artifact}-{version}.jar" for artifact in artifacts]
    if not all(jar.exists() for jar in jars):
        log.info("fetching Delta's libraries, once: %s", ", ".join(jar.name for jar in jars))
        folder.mkdir(parents=True, exist_ok=True)
        maven = environ.get(MAVEN_VARIABLE)
        if maven:
            for artifact, jar in zip(artifacts, jars, strict=True):
                _download(f"{maven.rstrip('/')}/{_GROUP.replace('.', '/')}/{artifact}/{version}/{jar.name}", jar)
        else:
            _resolve(home, java, environ, [f"{_GROUP}:{artifact}:{version}" for artifact in artifacts], jars)
    return jars


def scala_version(pyspark_home: Path) -> str:
    """Return the version of Scala that the installed Spark was made with, from the name of its own library."""
    for jar in (pyspark_home / "jars").glob("spark-core_*.jar"):
        return jar.name.removeprefix("spark-core_").split("-")[0]
    raise RuntimeSetupError(f"{pyspark_home} has no jars/spark-core_*.jar: install pyspark again")


def delta_artifact(delta_version: str, spark_version: str, scala: str) -> str:
    """Return the name of Delta's library; from Delta 4.1 on there is one for each version of Spark."""
    major_minor = tuple(int(part) for part in delta_version.split(".")[:2])
    spark = "" if major_minor < (4, 1) else f"{'.'.join(spark_version.split('.')[:2])}_"
    return f"delta-spark_{spark}{scala}"


def _resolve(home: Path, java: Java, environ: Mapping[str, str], packages: list[str], jars: list[Path]) -> None:
    """Let Spark's own resolver fetch `packages`; keep each as the file of `jars` at the same place in the list."""
    with tempfile.TemporaryDirectory(dir=jars[0].parent) as name:
        folder = Path(name)
        nothing = folder / "nothing.py"
        nothing.touch()
        command = [str(home / "bin" / "spark-submit"), "--master", "local[1]", "--packages", ",".join(packages)]
        command += ["--conf", f"spark.jars.ivy={folder}"]
        command += ["--driver-java-options", " ".join(_network_options(environ, folder)), str(nothing)]
        variables = {**environ, **({"JAVA_HOME": java.home} if java.home else {}), "SPARK_HOME": str(home)}
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, check=False, timeout=_RESOLVER_SECONDS
            )
            said = done.stderr
        except subprocess.TimeoutExpired:
            said = f"no answer in {_RESOLVER_SECONDS} seconds"
        for package, jar in zip(packages, jars, strict=True):
            group, artifact, version = package.split(":")
            fetched = folder / "jars" / f"{group}_{artifact}-{version}.jar"
            if not fetched.exists():
                raise RuntimeSetupError(
                    f"Spark's resolver can't fetch {package}: {_reason(said)}; set {MAVEN_VARIABLE} to a Maven "
                    "repository you can reach"
                )
            fetched.replace(jar)


def _network_options(environ: Mapping[str, str], folder: Path) -> list[str]:
    """Return Java's options for the proxy and the certificates that Python's programs on this machine are told of."""
    options = []
    proxy = urlsplit(getproxies().get("https", ""))
    if proxy.hostname:
        options += [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]
    bundle = next((environ[name] for name in _CERTIFICATES if environ.get(name)), None)
    if bundle:
        store = folder / "certificates.p12"
        try:
            store.write_bytes(_trust_store(Path(bundle).read_bytes()))
        except (OSError, ValueError) as error:
            raise RuntimeSetupError(f"{bundle}: can't be read as certificates: {error}") from None
        options += [f'"-Djavax.net.ssl.trustStore={store}"', "-Djavax.net.ssl.trustStoreType=PKCS12"]
    return options


def _trust_store(bundle: bytes) -> bytes:
    """Return the certificates of a PEM file as Java reads them."""
    from cryptography.hazmat.primitives.serialization import NoEncryption
    from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore
    from cryptography.x509 import load_pem_x509_certificate

    named = []
    for number, text in enumerate(
        re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.S)
    ):
        # Some that are handed around break the standard, and are of no use to anybody.
        with suppress(ValueError, UserWarning), warnings.catch_warnings():
            warnings.simplefilter("error")
            named.append(PKCS12Certificate(load_pem_x509_certificate(text), str(number).encode()))
    if not named:
        raise ValueError("there is none in it")
    store: bytes = serialize_java_truststore(named, NoEncryption())
    return store


def _reason(output: str) -> str:
    """Return the line of the resolver's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for telling in ("Server access error", "(?i)exception|error|not found"):
        lines = [line for line in lines if re.search(telling, line)] or lines
    return (lines or ["it said nothing"])[0][:300]


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
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
        part.write(reply.content)
    Path(part.name).replace(target)
