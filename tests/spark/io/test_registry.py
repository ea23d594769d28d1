"""A real MLflow server behind a line that is slow, drops requests, loses answers, or is cut in the middle of a task."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from booking_mlops.errors import RegistryError
from booking_mlops.io.machine import this_machine
from booking_mlops.io.registry import Registry
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from tests.conftest import Environment
from tests.spark.conftest import FORTY, make_task

pytestmark = pytest.mark.spark
PASS, SLOW, DROP, LOSE_THE_ANSWER = "pass", "slow", "drop", "lose the answer"


class Line(ThreadingHTTPServer):
    """Passes requests on to a server; `fault` says what happens to each, by its number."""

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passer)
        self.behind = behind
        self.fault: Callable[[int], str] = lambda number: PASS
        self.seen = 0
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._counting = threading.Lock()

    def reset(self, fault: Callable[[int], str]) -> None:
        self.seen, self.fault = 0, fault

    def next_fault(self) -> str:
        with self._counting:
            self.seen += 1
            return self.fault(self.seen)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was cut off is what this is for."""


class _Passer(BaseHTTPRequestHandler):
    def do(self) -> None:
        line = self.server
        assert isinstance(line, Line)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = line.next_fault()
        if fault == DROP:
            self._cut()
            return
        if fault == SLOW:
            time.sleep(0.2)
        headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
        answer = requests.request(self.command, line.behind + self.path, data=body, headers=headers, timeout=60)
        if fault == LOSE_THE_ANSWER:
            self._cut()
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815 (the base class's names)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
             "--artifacts-destination", str(folder / "files")],
            stdout=log, stderr=log, env=environ, start_new_session=True,
        )  # fmt: skip
    found = Line(f"http://127.0.0.1:{port}")
    end = time.monotonic() + 60
    while True:
        try:
            requests.get(f"{found.behind}/health", timeout=5)
            break
        except (requests.ConnectionError, requests.Timeout):
            assert time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.2)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()
    os.killpg(server.pid, 9)
    server.wait()


@pytest.fixture(autouse=True)
def by_the_line(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", line.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    line.reset(lambda number: PASS)


def registry(line: Line, environment: Environment) -> Registry:
    number = environment.schema.removeprefix("test_")
    machine = this_machine(os.environ)
    return Registry(
        machine, model_name=environment.model_name, experiment=f"experiment_{number}", tracking_uri=line.url
    )


def end_of(spark: Any, line: Line, environment: Environment) -> tuple[Any, ...]:
    """What a training and a scoring leave: one champion that the history knows, and the sum of its scores."""
    decided = spark.table(environment.table("promotions")).toPandas().sort_values("decided_at")
    champion = registry(line, environment).require_champion()
    last = decided.iloc[-1]
    assert last["champion_after"] == champion.number
    assert {one.number for one in registry(line, environment).versions()} >= set(decided["challenger_version"])
    found = "count(*), count(DISTINCT booking_id), round(sum(cancellation_probability), 6)"
    return tuple(spark.sql(f"SELECT {found} FROM {environment.table('predictions')}").first())


def train_and_score(spark: Any, environment: Environment) -> None:
    make_task(ModelTrain, spark, environment, *FORTY).run()
    make_task(ModelInferenceBatch, spark, environment, "drift.policy=skip").run()


@pytest.fixture(scope="module")
def undisturbed(spark: Any, trained: Any, line: Line, tmp_path_factory: Any, lake: Path) -> tuple[Any, ...]:
    from tests.spark.conftest import copy_features

    environment = copy_features(spark, trained, tmp_path_factory.mktemp("undisturbed"), lake)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", line.url)
        line.reset(lambda number: PASS)
        train_and_score(spark, environment)
        requests_made = line.seen
        return requests_made, *end_of(spark, line, environment)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda number: (PASS, SLOW, SLOW, DROP)[number % 4], id="slow, and drops requests"),
        pytest.param(lambda number: LOSE_THE_ANSWER if number % 5 == 0 else PASS, id="loses answers"),
    ],
)
def test_a_bad_line_changes_nothing_about_the_end(
    fault: Callable[[int], str], spark: Any, line: Line, featured: Environment, undisturbed: tuple[Any, ...]
) -> None:
    line.reset(fault)
    train_and_score(spark, featured)
    assert line.seen >= undisturbed[0]
    assert end_of(spark, line, featured) == undisturbed[1:]


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_a_connection_lost_for_good_is_one_line_and_the_next_run_ends_where_it_would_have(
    share: float, spark: Any, line: Line, featured: Environment, undisturbed: tuple[Any, ...]
) -> None:
    last = int(undisturbed[0] * share)
    line.reset(lambda number: PASS if number <= last else DROP)
    with pytest.raises(RegistryError) as lost:
        train_and_score(spark, featured)
    assert len(str(lost.value).splitlines()) == 1
    line.reset(lambda number: PASS)
    train_and_score(spark, featured)
    assert end_of(spark, line, featured) == undisturbed[1:]
