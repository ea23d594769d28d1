"""Run a task in a process of its own: `python -c <this file> PACKAGE ENTRY_POINT ARGUMENT …`.

Tasks on one cluster share its JVM, one after the other, as on Databricks: the second need not start and warm up Spark.
LOCAL_CLUSTER names the cluster's folder; without it a task starts a JVM of its own. LOCAL_DBFS names the folder of the
workspace's files, where `/Volumes/…` and `/dbfs/…` lead: only root could mount it there.
"""

import builtins
import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


class SharedJvm:
    """The JVM of a cluster, described by `jvm.json` in the cluster's folder; one task at a time may use it.

    It is in a process group of its own and outlives the task. The workspace's server ends it.
    """

    def __init__(self, folder: Path, launch: Callable[..., Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._note = folder / "jvm.json"
        self._launch = launch
        self._lock: Any = None

    def gateway(self, conf: Any = None, popen_kwargs: dict[str, Any] | None = None) -> Any:
        """Return a gateway to the cluster's JVM, started if need be; to a JVM of this task's own while it is in use.

        This stands in for `pyspark.java_gateway.launch_gateway` and takes the same arguments.
        """
        lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._launch(conf, popen_kwargs)
        # Keep the lock until this process ends, and don't hand it to child processes.
        os.set_inheritable(lock.fileno(), False)
        self._lock = lock
        settings = [sorted(conf.getAll()) if conf else [], sorted(os.environ.items())]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        if self._note.exists():
            from py4j.protocol import Py4JError

            known = json.loads(self._note.read_text())
            if known["key"] == key:
                # The JVM may have died since; then start a new one.
                with contextlib.suppress(Py4JError):
                    return self._join(known)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(known["pid"], signal.SIGKILL)
        return self._start(conf, key)

    def _join(self, known: dict[str, Any]) -> Any:
        os.environ |= {"PYSPARK_GATEWAY_PORT": str(known["port"]), "PYSPARK_GATEWAY_SECRET": known["secret"]}
        try:
            gateway = self._launch()
            # Each task has a session of its own; only the files and settings of the cluster are shared.
            if gateway.jvm.org.apache.spark.SparkEnv.get() is not None:
                gateway.jvm.org.apache.spark.SparkContext.getOrCreate().stop()
            sessions = gateway.jvm.SparkSession
            sessions.clearDefaultSession()
            sessions.clearActiveSession()
        finally:
            del os.environ["PYSPARK_GATEWAY_PORT"], os.environ["PYSPARK_GATEWAY_SECRET"]
        return gateway

    def _start(self, conf: Any, key: str) -> Any:
        import pyspark.java_gateway

        pipe = self._folder / "stdin"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, mode=0o600)
        # The JVM ends when its standard input is closed. Opened for writing too, the pipe never is.
        standard_input = os.open(pipe, os.O_RDWR)

        def popen(command: list[str], **options: Any) -> Any:
            with (self._folder / "jvm.log").open("ab") as log:
                options |= {"stdin": standard_input, "stdout": log, "stderr": log, "start_new_session": True}
                return subprocess.Popen(command, **options)

        pyspark.java_gateway.Popen = popen
        try:
            gateway = self._launch(conf)
        finally:
            pyspark.java_gateway.Popen = subprocess.Popen
            os.close(standard_input)
        self._describe(gateway, key)
        return gateway

    def _describe(self, gateway: Any, key: str) -> None:
        parameters = gateway.gateway_parameters
        about = {"pid": gateway.proc.pid, "port": parameters.port, "secret": parameters.auth_token, "key": key}
        part = self._note.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(about, file)
        part.replace(self._note)


_FUNCTIONS_OF_OS = (
    *(
        "access",
        "chmod",
        "listdir",
        "lstat",
        "mkdir",
        "open",
        "remove",
        "rename",
        "replace",
        "rmdir",
        "scandir",
        "stat",
    ),
    *("unlink", "utime"),
)
_READS_AND_WRITES = ("csv", "json", "load", "orc", "parquet", "save", "text")


def mount(root: str) -> None:
    """Make `/Volumes/…` and `/dbfs/…` lead below `root` for Python and, where it is installed, for Spark."""
    mount_for_python(root)
    if importlib.util.find_spec("pyspark") is not None:
        mount_for_spark()


def mount_for_python(root: str) -> None:
    """Make `/Volumes/…` and `/dbfs/…` lead below `root` for `open`, `os`, and what is written with them."""

    def local(value: Any) -> Any:
        path = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(path, str) and (path == "/Volumes" or path.startswith("/Volumes/")):
            return root + path
        on_dbfs = isinstance(path, str) and path.startswith("/dbfs/") and not path.startswith("/dbfs/Volumes/")
        return root + path.removeprefix("/dbfs") if on_dbfs else value

    for module, names in ((builtins, ("open",)), (io, ("open",)), (os, _FUNCTIONS_OF_OS)):
        for name in names:
            setattr(module, name, _with_paths(getattr(module, name), local))
    # Python 3.10's pathlib keeps the functions it found.
    kept = getattr(pathlib, "_NormalAccessor", None)
    for name in (*_FUNCTIONS_OF_OS, "open"):
        if hasattr(kept, name):
            setattr(kept, name, staticmethod(getattr(io if name == "open" else os, name)))


def mount_for_spark() -> None:
    """Make `/Volumes/…` lead to `dbfs:/Volumes/…` for what Spark reads and writes by a path."""
    from pyspark.sql import DataFrameReader, DataFrameWriter

    def local(value: Any) -> Any:
        if isinstance(value, list):
            return [local(one) for one in value]
        return f"dbfs:{value}" if isinstance(value, str) and value.startswith("/Volumes/") else value

    for cls in (DataFrameReader, DataFrameWriter):
        for name in _READS_AND_WRITES:
            if hasattr(cls, name):
                setattr(cls, name, _with_paths(getattr(cls, name), local))


def _with_paths(function: Callable[..., Any], local: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return function(*map(local, arguments), **{name: local(value) for name, value in named.items()})

    return call


def share_jvm(folder: Path) -> None:
    """Make pyspark use the JVM of the cluster whose folder this is."""
    import pyspark.context
    import pyspark.java_gateway

    pyspark.context.launch_gateway = SharedJvm(folder, pyspark.java_gateway.launch_gateway).gateway


def main() -> None:
    """Run the entry point of an installed package, as Databricks runs a `python_wheel_task`."""
    package, name, *arguments = sys.argv[1:]
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"error: no library of this task has a package named {package}")
    found = [point for point in distribution.entry_points if point.name == name]
    if not found:
        sys.exit(f"error: {package} {distribution.version} has no entry point named {name}")
    cluster, files = os.environ.pop("LOCAL_CLUSTER", ""), os.environ.pop("LOCAL_DBFS", "")
    if cluster and importlib.util.find_spec("pyspark") is not None:
        share_jvm(Path(cluster))
    if files:
        mount(files)
    sys.argv = [name, *arguments]
    found[0].load()()


if __name__ == "__main__":
    main()
