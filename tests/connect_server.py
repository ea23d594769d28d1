"""A Spark Connect server with Delta in a process of its own: what standard access mode and serverless compute give."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from booking_mlops.io.delta_libraries import delta_jars
from booking_mlops.io.java import find_java
from booking_mlops.io.machine import Machine, shared_folder
from booking_mlops.io.spark import _local_conf


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def connect_server(lake: Path, log: Path, *, small: bool = True) -> Iterator[str]:
    """Start the server over the lake's warehouse, set up for `small` tables; yield the address for SPARK_REMOTE."""
    import pyspark

    home = Path(pyspark.__file__).parent
    java = find_java(os.environ, pyspark.__version__, shared_folder())
    machine = Machine(on_cluster=False, lake=lake)
    port = free_port()
    conf = {
        **_local_conf(machine, delta_jars(os.environ, java), small, ()),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
    }
    command = [str(home / "bin" / "spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    for key, value in conf.items():
        command += ["--conf", f"{key}={value}"]
    variables = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    variables |= {"JAVA_HOME": java.home} if java.home else {}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "spark-internal"], env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and server.poll() is None:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        else:
            pytest.fail(f"the Connect server did not start: {log.read_text()[-2000:]}")
        yield f"sc://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
