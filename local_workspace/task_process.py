"""Run a task in a process of its own: `python -c <this file> PACKAGE ENTRY_POINT ARGUMENT …`.

Tasks on one cluster share its JVM, one after the other, as on Databricks: the second need not start and warm up Spark.
LOCAL_CLUSTER names the cluster's folder; without it a task starts a JVM of its own. LOCAL_MOUNTS says, as JSON, where
`/Volumes/…`, `/Workspace/…` and `/dbfs/…` lead: only root could mount them there.
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
import re
import signal
import subprocess
import sys
import types
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
        # A service principal's task has a token of its own. The JVM goes on with that of the first, which is as good:
        # the tasks of a run have one identity.
        variables = sorted((name, value) for name, value in os.environ.items() if name != "DATABRICKS_TOKEN")
        settings = [sorted(conf.getAll()) if conf else [], variables]
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
_IN_A_VOLUME = re.compile("^(file:(//)?)?/Volumes/")
_ADDRESS_OF_ROW = (
    "_metadata.file_path",
    "regexp_replace(_metadata.file_path, '^dbfs:/+Volumes/', 'file:/Volumes/')",
)


def mount(mounts: dict[str, str]) -> None:
    """Make the paths of `mounts` lead to their folders, for Python and, where it is installed, for Spark."""
    mount_for_python(mounts)
    if importlib.util.find_spec("pyspark") is not None:
        mount_for_spark()


def mount_for_python(mounts: dict[str, str]) -> None:
    """Make paths lead to the folders of `mounts` for `open`, `os`, and what is written with them."""

    def local(value: Any) -> Any:
        path = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(path, str) and not path.startswith("/dbfs/Volumes/"):
            for mounted, folder in mounts.items():
                if path == mounted or path.startswith(f"{mounted}/"):
                    return folder + path.removeprefix(mounted)
        return value

    replaced = {}
    for module, names in ((builtins, ("open",)), (io, ("open",)), (os, _FUNCTIONS_OF_OS)):
        for name in names:
            function = getattr(module, name)
            replaced[function] = _with_paths(function, local)
            setattr(module, name, replaced[function])
    # Some classes keep the functions that they found, such as those that match patterns from Python 3.13 on.
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("glob", "pathlib")]
    for cls in {value for module in modules for value in vars(module).values() if isinstance(value, type)}:
        for name, value in list(vars(cls).items()):
            function = value.__func__ if isinstance(value, staticmethod) else value
            if isinstance(function, types.BuiltinFunctionType) and function in replaced:
                setattr(cls, name, staticmethod(replaced[function]))


def mount_for_spark() -> None:
    """Make `/Volumes/…` and `file:/Volumes/…` lead to `dbfs:/Volumes/…` for what Spark reads and writes by a path.

    Of files that were asked for by `file:`, the rows' `_metadata.file_path` is spelled that way too.
    """
    from pyspark.sql import DataFrameReader, DataFrameWriter

    def local(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(local(one) for one in value)
        return _IN_A_VOLUME.sub("dbfs:/Volumes/", value) if isinstance(value, str) else value

    for cls in (DataFrameReader, DataFrameWriter):
        for name in _READS_AND_WRITES:
            if hasattr(cls, name):
                function = _with_paths(getattr(cls, name), local)
                setattr(cls, name, _giving_back(function) if cls is DataFrameReader else function)


def _giving_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a reader's function whose rows say `file:/Volumes/…` of where they are from when that was asked for."""

    @functools.wraps(function)
    def read(*arguments: Any, **named: Any) -> Any:
        frame = function(*arguments, **named)
        given = [one for value in (*arguments, *named.values()) for one in _texts(value)]
        if any(_IN_A_VOLUME.match(one) and one.startswith("file:") for one in given):
            select = frame.selectExpr
            frame.selectExpr = lambda *columns: select(*(one.replace(*_ADDRESS_OF_ROW) for one in columns))
        return frame

    return read


def _texts(value: Any) -> list[str]:
    return [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, str)]


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
    cluster, mounts = os.environ.pop("LOCAL_CLUSTER", ""), os.environ.pop("LOCAL_MOUNTS", "")
    if cluster and importlib.util.find_spec("pyspark") is not None:
        share_jvm(Path(cluster))
    if mounts:
        mount(json.loads(mounts))
    sys.argv = [name, *arguments]
    found[0].load()()


if __name__ == "__main__":
    main()
