"""Processes of tasks: from the deployed wheel, in a group of their own, with nothing left behind when they end."""

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

# What a task's process runs, by `python -c`: its modules are the wheel's, and none of this package's.
TASK = Path(__file__).with_name("task_process.py").read_text(encoding="utf-8")


def pip_install(folder: Path, *wheels: str) -> list[str]:
    """The command that puts wheels, and nothing they depend on, into a folder."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--upgrade"]
    return [*command, "--target", str(folder), *wheels]


def install_wheels(wheels: Sequence[Path], envs: Path, log: Path) -> list[Path]:
    """A folder for each wheel, by the hash of its content; made once, whoever asks first.

    What the wheel depends on is this interpreter's, as it is the cluster's on Databricks.
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
    """The wheels among a task's libraries.

    Raises: ApiError 400 for a library of another kind.
    """
    wheels = []
    for library in libraries:
        if set(library) != {"whl"}:
            raise invalid(f"local_workspace installs wheels only, not {', '.join(library)}: put it into the wheel")
        wheels.append(str(library["whl"]))
    return wheels


def spark_conf_dir(folder: Path, dbfs_root: Path) -> Path:
    """A SPARK_CONF_DIR in which `dbfs:/` leads to the workspace's files."""
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


def environment(added: Mapping[str, str]) -> dict[str, str]:
    """What a task sees: this process's variables without any that may be a secret, and the task's own."""
    kept = {key: value for key, value in os.environ.items() if not _SECRET.search(key)}
    for name in ("PYTHONPATH", "COVERAGE_PROCESS_START"):
        kept.pop(name, None)
    return {**kept, "PYTHONUNBUFFERED": "1", **added}


def start(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own; both its streams go to `log`."""
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


def birth(process_id: int) -> str | None:
    """When a process was started, in the machine's own ticks: tells it from a later one with the same number."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def kill_group(process_id: int) -> None:
    """End a process and everything it started: asked first, then made to."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        try:
            os.killpg(process_id, number)
        except (ProcessLookupError, PermissionError):
            return
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if not _group_alive(process_id):
                return
            time.sleep(0.05)


def end_jvm(cluster: Path) -> None:
    """End the JVM that tasks of a cluster shared, unless one of them is using it still."""
    note = cluster / "jvm.json"
    if not note.exists():
        return
    with (cluster / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        process_id = int(json.loads(note.read_text())["pid"])
        asked = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(process_id)], capture_output=True, check=False)
        # After a restart of the machine the number may be somebody else's.
        if b"SparkSubmit" in asked.stdout:
            kill_group(process_id)
        note.unlink()


def _group_alive(group: int) -> bool:
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
