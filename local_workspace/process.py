"""Start and end the processes of tasks: each from the deployed wheel, in a process group of its own."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from local_workspace.errors import invalid

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_?KEY|^DATABRICKS_|^MLFLOW_|^DBX_", re.IGNORECASE)
_GRACE_SECONDS = 5.0

# A task's process gets this program by `python -c`, so that it can import the wheel but not this package.
TASK_PROGRAM = Path(__file__).with_name("task_process.py").read_text(encoding="utf-8")


def pip_install(folder: Path, *wheels: str) -> list[str]:
    """Return the command that installs wheels, without their dependencies, into a folder."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--upgrade"]
    return [*command, "--target", str(folder), *wheels]


def install_wheels(wheels: Sequence[Path], envs: Path, log: Path) -> list[Path]:
    """Install each wheel into a folder below `envs`, named by the hash of its content, and return the folders.

    A wheel that is installed already is not installed again. Its dependencies are those of this interpreter, as on
    Databricks they are those of the cluster. pip's output goes to `log`.
    """
    folders = []
    envs.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        folder = envs / digest
        with (envs / f"{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / ".ready").exists():
                with log.open("ab") as output:
                    subprocess.run(pip_install(folder, str(wheel)), check=True, stdout=output, stderr=output)
                (folder / ".ready").touch()
        folders.append(folder)
    return folders


def wheels_of(libraries: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the paths of the wheels among a task's libraries.

    Raises: ApiError 400 for a library that is no wheel.
    """
    wheels = []
    for library in libraries:
        if set(library) != {"whl"}:
            raise invalid(f"local_workspace installs wheels only, not {', '.join(library)}: put it into the wheel")
        wheels.append(str(library["whl"]))
    return wheels


def spark_conf_dir(folder: Path, dbfs_root: Path) -> Path:
    """Write Spark's settings that make `dbfs:/` the workspace's files; return the folder, for SPARK_CONF_DIR."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "fs.dbfs.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        "fs.viewfs.overload.scheme.target.dbfs.impl": "org.apache.hadoop.fs.LocalFileSystem",
        "fs.viewfs.mounttable.default.linkFallback": dbfs_root.as_uri(),
    }
    lines = [f"<property><name>{key}</name><value>{escape(value)}</value></property>" for key, value in values.items()]
    (folder / "core-site.xml").write_text(f"<configuration>{''.join(lines)}</configuration>\n", encoding="utf-8")
    (folder / "spark-defaults.conf").write_text(
        "spark.delta.logStore.dbfs.impl io.delta.storage.LocalLogStore\n", encoding="utf-8"
    )
    return folder


def task_variables(added: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment variables without any that may be a secret, and those added."""
    kept = {key: value for key, value in os.environ.items() if not _SECRET.search(key)}
    for name in ("PYTHONPATH", "COVERAGE_PROCESS_START"):
        kept.pop(name, None)
    return {**kept, "PYTHONUNBUFFERED": "1", **added}


def start(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own; append its output and errors to `log`."""
    cwd.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def start_ticks(process_id: int) -> str | None:
    """Return when a process was started, in clock ticks since the machine was; None when it has ended.

    Together with the process id, which may be given again, this identifies a process.
    """
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def kill_group(process_id: int) -> None:
    """End a process group: send SIGTERM, then SIGKILL if it is alive five seconds later."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process_id, number)
        except (ProcessLookupError, PermissionError):
            return
        end = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < end:
            if not _group_alive(process_id):
                return
            time.sleep(0.05)


def end_shared_jvm(cluster: Path) -> None:
    """End the JVM that the tasks of a cluster share, unless one of them is still using it."""
    note = cluster / "jvm.json"
    if not note.exists():
        return
    with (cluster / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        process_id = int(json.loads(note.read_text())["pid"])
        found = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(process_id)], capture_output=True, check=False)
        # After a restart of the machine another program may have this process id.
        if b"SparkSubmit" in found.stdout:
            kill_group(process_id)
        note.unlink()


def _group_alive(group: int) -> bool:
    """Return whether a process group has a process that is not a zombie."""
    for entry in Path("/proc").glob("[0-9]*/stat") if Path("/proc").is_dir() else []:
        try:
            state, _, found = entry.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(found) == group and state != "Z":
            return True
    if Path("/proc").is_dir():
        return False
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
