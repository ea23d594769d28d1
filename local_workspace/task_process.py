"""What the process of a task runs: `python -c <this file> PACKAGE ENTRY_POINT ARGUMENT …`.

Tasks on one cluster share its JVM, one after the other, as they do on Databricks: what the first has started and warmed
up is there for the next. LOCAL_CLUSTER names the cluster's folder; without it a task's JVM is its own.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def share_jvm(folder: Path) -> None:
    """Make pyspark use the cluster's JVM; a task that finds it in use starts one of its own.

    The JVM is in a process group of its own and outlives the task: who started the task ends it, by `jvm.json`.
    """
    import pyspark.context
    import pyspark.java_gateway
    from py4j.protocol import Py4JError
    from pyspark import SparkConf

    launch: Callable[..., Any] = pyspark.java_gateway.launch_gateway
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "jvm.json"

    def join(known: dict[str, Any]) -> Any:
        os.environ |= {"PYSPARK_GATEWAY_PORT": str(known["port"]), "PYSPARK_GATEWAY_SECRET": known["secret"]}
        try:
            gateway = launch()
            # What the task before had: a cluster's files and settings are shared, a session is a task's own.
            if gateway.jvm.org.apache.spark.SparkEnv.get() is not None:
                gateway.jvm.org.apache.spark.SparkContext.getOrCreate().stop()
            sessions = gateway.jvm.SparkSession
            sessions.clearDefaultSession()
            sessions.clearActiveSession()
        finally:
            del os.environ["PYSPARK_GATEWAY_PORT"], os.environ["PYSPARK_GATEWAY_SECRET"]
        return gateway

    def start(conf: Any, key: str) -> Any:
        pipe = folder / "stdin"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, mode=0o600)
        # The JVM ends when nobody can write to its standard input any more: it holds the other end itself.
        held = os.open(pipe, os.O_RDWR)

        def popen(command: list[str], **options: Any) -> Any:
            with (folder / "jvm.log").open("ab") as log:
                options |= {"stdin": held, "stdout": log, "stderr": log, "start_new_session": True}
                return subprocess.Popen(command, **options)

        pyspark.java_gateway.Popen = popen
        try:
            gateway = launch(conf)
        finally:
            pyspark.java_gateway.Popen = subprocess.Popen
            os.close(held)
        parameters = gateway.gateway_parameters
        about = {"pid": gateway.proc.pid, "port": parameters.port, "secret": parameters.auth_token, "key": key}
        part = note.with_suffix(".part")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(about, file)
        part.replace(note)
        return gateway

    def launch_gateway(conf: SparkConf | None = None, popen_kwargs: dict[str, Any] | None = None) -> Any:
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return launch(conf, popen_kwargs)
        # Held until this process ends, however it ends.
        os.set_inheritable(lock.fileno(), False)
        launch_gateway.lock = lock  # type: ignore[attr-defined]
        asked = [sorted(conf.getAll()) if conf else [], sorted(os.environ.items())]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        if note.exists():
            known = json.loads(note.read_text())
            if known["key"] == key:
                # It may have died since; then there is a new one.
                with contextlib.suppress(Py4JError):
                    return join(known)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(known["pid"], signal.SIGKILL)
        return start(conf, key)

    pyspark.context.launch_gateway = launch_gateway


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
    cluster = os.environ.pop("LOCAL_CLUSTER", "")
    if cluster and importlib.util.find_spec("pyspark"):
        share_jvm(Path(cluster))
    sys.argv = [name, *arguments]
    found[0].load()()


if __name__ == "__main__":
    main()
