"""A workspace in a process of its own, the real dbx as a subprocess, and a wheel whose runs take a second."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from databricks.sdk import WorkspaceClient

from tests.conftest import ROOT

DBX = Path(sys.executable).with_name("dbx")
# Pythons that have MLflow as a client: this one's MLflow 3, dbx's MLflow 2, and what `make test-clients` has installed.
MLFLOW_3, MLFLOW_2 = sys.executable, str(ROOT / ".venv-dbx" / "bin" / "python")
NEWEST = str(ROOT / ".venv-clients" / "bin" / "python")
IN_AN_ENVIRONMENT_OF_ITS_OWN = (
    pytest.mark.clients,
    pytest.mark.skipif(not Path(NEWEST).exists(), reason="make test-clients runs it"),
)

TINY = """
import glob, os, pathlib, subprocess, sys, time
def ok(): print("arguments:", sys.argv[1:], "[/x]")
def fail(): print("about to fail"); raise RuntimeError("on purpose")
def sleep():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    print("child", child.pid, flush=True); time.sleep(300)
def second_time():
    marker = pathlib.Path("marker")
    if not marker.exists(): marker.touch(); sys.exit("error: the first time fails")
    print("the second time works")
def second_run():
    marker = pathlib.Path("..", "second_run")
    if not marker.exists(): marker.touch(); sys.exit("error: the first run fails")
def read():
    import pandas
    from pyspark.sql import SparkSession
    path = "/Volumes/dev/files/raw/in/a.csv"
    print("argument", pathlib.Path(sys.argv[1]).read_text().split())
    print("python", sorted(os.listdir("/Volumes/dev/files/raw/in")), os.path.exists(path), pathlib.Path(path).is_file(),
          open(path).read().split(), pathlib.Path(path).read_text().split(), list(pandas.read_csv(path).a))
    raw = pathlib.Path("/Volumes/dev/files/raw")
    print("pattern", sorted(one.name for one in raw.glob("i*/[ab]*.csv")), len(glob.glob(f"{raw}/*/*.csv")),
          [len(found[2]) for found in os.walk(raw / "in")])
    spark = SparkSession.builder.getOrCreate()
    print("spark", [spark.read.option("header", "true").csv(one).count() for one in (path, "dbfs:" + path)])
    both = spark.read.text(["file:" + path, "file:" + path.replace("a.csv", "b b.csv")])
    print("from", sorted(row[0] for row in both.selectExpr("_metadata.file_path AS p", "value").distinct().collect()))
    spark.range(3).write.mode("overwrite").json("/Volumes/dev/files/raw/out")
def show():
    path = pathlib.Path("/Workspace/Shared/bundle/conf.yml")
    print("file", pathlib.Path(sys.argv[1]).read_text(), path.read_text(), os.path.exists(path))
def jvm():
    from pyspark import SparkContext
    context = SparkContext.getOrCreate()
    print("\\njvm", context._jvm.java.lang.ProcessHandle.current().pid(), context.parallelize([1, 2]).sum(), flush=True)
def jvm_then_fail_once():
    jvm()
    second_time()
def jvm_then_wait(): jvm(); time.sleep(10)
def environment(): print("\\n".join(f"{key}={value}" for key, value in sorted(os.environ.items())))
"""


class Server:
    """`python -m local_workspace serve`, and requests to it."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self.options = options
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    @property
    def token(self) -> str:
        return (self.root / "token").read_text(encoding="utf-8")

    def start(self) -> None:
        # A restart takes the port it had: the pages' addresses were printed with it.
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "local_workspace", "--root", str(self.root), "--port", port, *self.options]
        log = (self.root.parent / "server.log").open("a")
        with log:
            self.process = subprocess.Popen(
                [*command, "serve"], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                self.url = found[0]
                break
        else:
            pytest.fail((self.root.parent / "server.log").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(timeout=60)

    def environment(self, name: str, token: str | None = None) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("DATABRICKS_", "MLFLOW_", "GITHUB_"))
        }
        return {
            **kept,
            "DATABRICKS_HOST": f"http://{name}.workspace.test",
            "DATABRICKS_TOKEN": token or self.token,
            "http_proxy": self.url,
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONWARNINGS": "ignore",
        }

    def call(self, name: str, method: str, path: str, /, *, token: str | None = None, **body: Any) -> requests.Response:
        return requests.request(
            method,
            f"http://{name}.workspace.test{path}",
            json=body or None,
            headers={"Authorization": f"Bearer {token or self.token}"},
            proxies={"http": self.url},
            timeout=60,
        )

    def upload(self, name: str, method: str, path: str, file: Path) -> int:
        """Send a file as the request's body; return the status."""
        return requests.request(
            method,
            f"http://{name}.workspace.test{path}",
            data=file.read_bytes(),
            headers={"Authorization": f"Bearer {self.token}"},
            proxies={"http": self.url},
            timeout=60,
        ).status_code

    def api(self, name: str, method: str, path: str, /, *, token: str | None = None, **body: Any) -> Any:
        answer = self.call(name, method, f"/api/2.1/{path}", token=token, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def jobs(self, name: str) -> dict[str, int]:
        answer = self.api(name, "GET", "jobs/list", limit=100)
        assert not answer["has_more"]
        found = answer.get("jobs", [])
        # Names need not be unique, and tests make some twice; dbx must not.
        deployed = [job["settings"]["name"] for job in found if job["settings"]["name"].startswith(f"{name}-")]
        assert len(set(deployed)) == len(deployed)
        return {job["settings"]["name"]: job["job_id"] for job in found}

    def volume(self, name: str, schema: str, volume: str) -> None:
        """A schema and a volume of the environment's catalog; those that are there stay."""
        path, catalog = "/api/2.1/unity-catalog", {"catalog_name": name}
        self.call(name, "POST", f"{path}/schemas", name=schema, **catalog)
        self.call(name, "POST", f"{path}/volumes", name=volume, schema_name=schema, volume_type="MANAGED", **catalog)

    def prepare(self, name: str) -> None:
        """What `booking-mlops deployment prepare` makes."""
        self.volume(name, "deployments", "booking_mlops")
        self.volume(name, "booking", "files")

    def dbx(self, *arguments: str, token: str | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        name = arguments[arguments.index("--environment") + 1]
        return subprocess.run(
            [str(DBX), *arguments],
            cwd=cwd,
            env=self.environment(name, token),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def wait(self, name: str, run_id: int, seconds: float = 240) -> dict[str, Any]:
        """A run when it is over."""
        return self.until(name, run_id, lambda run: run["end_time"] > 0, seconds)

    def until(self, name: str, run_id: int, condition: Any, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run: dict[str, Any] = self.api(name, "GET", f"jobs/runs/get?run_id={run_id}")
            if condition(run):
                return run
            time.sleep(0.25)
        pytest.fail(f"run {run_id} never got there: {run['state']}")

    def log(self, name: str, task_run_id: int) -> str:
        return str(self.api(name, "GET", f"jobs/runs/get-output?run_id={task_run_id}")["logs"])

    def tiny_wheel(self) -> Path:
        """A wheel whose entry points are the functions of TINY."""
        wheel = self.root.parent / "tiny-0.1-py3-none-any.whl"
        if not wheel.exists():
            names = re.findall(r"^def (\w+)", TINY, re.MULTILINE)
            entry_points = "\n".join(f"{name} = tiny:{name}" for name in names)
            with zipfile.ZipFile(wheel, "w") as file:
                file.writestr("tiny.py", TINY)
                info = "tiny-0.1.dist-info"
                file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 0.1\n")
                file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                file.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{entry_points}\n")
                file.writestr(f"{info}/RECORD", "")
        return wheel

    def tiny_job(
        self, name: str, *tasks: dict[str, Any], job_name: str = "tiny", token: str | None = None, **settings: Any
    ) -> int:
        """A job whose tasks are entry points of the tiny wheel."""
        wheel = self.tiny_wheel()
        volume = f"/Volumes/{name}/default/libs"
        if not all("libraries" in task for task in tasks):
            self.volume(name, "default", "libs")
            assert self.upload(name, "PUT", f"/api/2.0/fs/files{volume}/{wheel.name}?overwrite=true", wheel) == 204
        full = [
            {
                "new_cluster": {"spark_version": "15.4.x-scala2.12"},
                "libraries": [{"whl": f"{volume}/{wheel.name}"}],
                "python_wheel_task": {"package_name": "tiny", "entry_point": task.pop("does", "ok")},
                **task,
            }
            for task in map(dict, tasks)
        ]
        created = self.api(name, "POST", "jobs/create", token=token, name=job_name, tasks=full, **settings)
        return int(created["job_id"])

    def run(self, name: str, job_id: int, **more: Any) -> int:
        return int(self.api(name, "POST", "jobs/run-now", job_id=job_id, **more)["run_id"])


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkspaceClient]:
    """Return a function that returns the SDK's client of a workspace, with the owner's token or another."""
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")

    def make(workspace: str, token: str | None = None) -> WorkspaceClient:
        return WorkspaceClient(host=f"http://{workspace}.workspace.test", token=token or server.token)

    return make


@contextmanager
def running_server(folder: Path, *options: str) -> Iterator[Server]:
    """Keep a server of new workspaces up, with its files in `folder`."""
    found = Server(folder / "root", *options)
    found.root.mkdir()
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("workspace")) as found:
        yield found
