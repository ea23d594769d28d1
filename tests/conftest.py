"""One lake and one Spark session for the whole suite; each test gets a schema, a model and an experiment of its own."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml

from booking_mlops import cli
from booking_mlops.core.bookings import synthetic_data
from booking_mlops.core.bookings.schema import CSV_HEADER
from booking_mlops.io.machine import this_machine
from booking_mlops.io.spark import spark_session
from tests.connect_server import connect_server

# The first draw of a strategy is slow on a busy machine, which says nothing about the code under test.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent
_number = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--connect", action="store_true", help="run the Spark tests on a Spark Connect session")


# Before xdist, which reads the group.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = Path(item.path).relative_to(ROOT / "tests").parts[0]
        if folder in ("spark", "e2e", "deploy"):
            item.add_marker(folder)
        # With `-n 2`: one worker has the Spark session, the other dbx's workspace; the rest goes to the free one.
        if folder in ("spark", "deploy"):
            item.add_marker(pytest.mark.xdist_group(folder))


@pytest.fixture(scope="session", autouse=True)
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake that is not the developer's, and no MLflow server of theirs."""
    folder = tmp_path_factory.mktemp("lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOKING_LAKE", str(folder))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DATABRICKS_RUNTIME_VERSION"):
            patch.delenv(name, raising=False)
        patch.chdir(ROOT)
        yield folder


@pytest.fixture(scope="session")
def spark(lake: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    with ExitStack() as stack:
        if request.config.getoption("--connect"):
            address = stack.enter_context(connect_server(lake, lake / "connect.log"))
            stack.enter_context(pytest.MonkeyPatch.context()).setenv("SPARK_REMOTE", address)
        # Set up for small tables: over the whole suite the second compiler costs more than it saves.
        session = spark_session(this_machine(os.environ), {}, os.environ, lambda: 0)
        yield session
        session.stop()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The program logs to stderr, which in a test is gone when the test ends."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


@dataclass
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def booking_mlops(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line, in this process."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        try:
            cli.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else int(bool(stopped.code))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@dataclass
class Environment:
    """An environment of a test's own: its file, and the names in it."""

    file: Path
    schema: str
    model_name: str
    tasks: dict[str, Any] = field(default_factory=dict)

    @property
    def database(self) -> str:
        return f"spark_catalog.{self.schema}"

    def table(self, name: str) -> str:
        return f"{self.database}.{name}"


def write_environment(folder: Path, **tasks: Any) -> Environment:
    number = next(_number)
    environment = Environment(folder / f"env{number}.yml", f"test_{number}", f"model_{number}", tasks)
    content = {
        "environment": "test",
        "catalog": "spark_catalog",
        "schema": environment.schema,
        "experiment": f"experiment_{number}",
        "model_name": environment.model_name,
        "tasks": tasks,
    }
    environment.file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return write_environment(tmp_path)


def noon(day: int = 1) -> Callable[[], datetime]:
    """A clock that stands still."""
    return lambda: datetime(2026, 3, day, 12, 0, tzinfo=timezone.utc)


def write_bookings(path: Path, rows: int = 200, seed: int = 3) -> list[str]:
    """Write a clean synthetic file; return its lines, header first."""
    lines = synthetic_data.csv_lines(synthetic_data.synthetic_bookings(rows * 2, seed), header=True)
    clean = [line for line in lines if "2018-2-29" not in line][: rows + 1]
    path.write_text("\n".join(clean) + "\n", encoding="utf-8")
    return clean


HEADER = ",".join(CSV_HEADER)
