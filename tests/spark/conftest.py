"""A trained environment, shared by the tests that only read it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import deltalake
import pytest

from booking_mlops import runner
from booking_mlops.io.machine import this_machine
from booking_mlops.io.registry import Registry
from booking_mlops.io.spark import register_tables
from booking_mlops.services.training_data import TrainingData, read_training_data
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_train import ModelTrain
from booking_mlops.tasks.outlook import Outlook
from booking_mlops.tasks.setup_data import SetupData
from booking_mlops.tasks.task import Task
from tests.conftest import ROOT, Environment, noon, write_environment

ROWS = 12_000
FORTY = ("model.n_estimators=40", "comparison.bootstrap_samples=300")


def make_task(
    task: type[Task[Any, Any]], spark: Any, environment: Environment, *settings: str, day: int = 1
) -> Task[Any, Any]:
    """A task of the environment with a clock that stands still."""
    task_file = ROOT / "conf" / "tasks" / f"{task.key()}.yml"
    return runner.make_task(task, task_file, environment.file, settings, spark=spark, clock=noon(day))


def training_data(task: Task[Any, Any]) -> TrainingData:
    """The rows that a `model-train` would train on and be judged on."""
    return read_training_data(task.session.tables, task.config)


def registry_of(environment: Environment) -> Registry:
    """The environment's registry."""
    number = environment.schema.removeprefix("test_")
    return Registry(this_machine(os.environ), model_name=environment.model_name, experiment=f"experiment_{number}")


@dataclass
class Trained:
    environment: Environment
    results: dict[str, Any]


@pytest.fixture(scope="session")
def trained(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Every task run once. Not to be changed."""
    environment = write_environment(
        tmp_path_factory.mktemp("trained"), setup_data={"make_data": True, "made_rows": ROWS}
    )
    results = {}
    for task in (SetupData, FeatureTableCreation, ModelTrain, ModelInferenceBatch):
        results[task.key()] = make_task(task, spark, environment).run()
    return Trained(environment, results)


def copy_features(spark: Any, trained: Trained, folder: Path, lake: Path) -> Environment:
    """An environment of its own with the bookings, features and labels of the trained one, but no model."""
    environment = write_environment(folder)
    warehouse = lake / "warehouse"
    for table in ("bookings", "features", "labels"):
        shutil.copytree(
            warehouse / f"{trained.environment.schema}.db" / table, warehouse / f"{environment.schema}.db" / table
        )
    register_tables(spark, this_machine(os.environ), environment.database)
    return environment


@pytest.fixture
def featured(spark: Any, trained: Trained, tmp_path: Path, lake: Path) -> Environment:
    """An environment with bookings, features and labels but no model, for a test to change."""
    return copy_features(spark, trained, tmp_path, lake)


@pytest.fixture(scope="session")
def good(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Path) -> Environment:
    """An environment with a good champion; each test mends what it breaks."""
    environment = copy_features(spark, trained, tmp_path_factory.mktemp("good"), lake)
    assert make_task(ModelTrain, spark, environment, *FORTY).run().decision.promoted
    return environment


@contextmanager
def broken(spark: Any, environment: Environment, *statements: str) -> Iterator[None]:
    """The environment's tables after SQL that harms them, by `{name}`; as they were after the block."""
    used = sorted(set(re.findall(r"{(\w+)}", " ".join(statements))))
    # deltalake needs milliseconds for what takes Spark seconds.
    folders = {name: this_machine(os.environ).warehouse / f"{environment.schema}.db" / name for name in used}
    before = {name: deltalake.DeltaTable(folder).version() for name, folder in folders.items()}
    for statement in statements:
        spark.sql(statement.format(**{name: environment.table(name) for name in used}))
    try:
        yield
    finally:
        for name, folder in folders.items():
            table = deltalake.DeltaTable(folder)
            # A statement may only have read it.
            if table.version() != before[name]:
                table.restore(before[name])


SEEN, LATER, OVER = date(2018, 9, 1), date(2018, 10, 1), date(2019, 1, 1)


@pytest.fixture(scope="session")
def lived(spark: Any, trained: Trained, tmp_path_factory: pytest.TempPathFactory, lake: Path) -> Trained:
    """An environment that has seen two days, SEEN and LATER, with open bookings; now it is OVER and all have ended.

    On each day the bookings that arrive on it or later were open, were scored and had an outlook. A test mends what it
    breaks. The results are by task and day.
    """
    environment = copy_features(spark, trained, tmp_path_factory.mktemp("lived"), lake)
    results = {}
    for day in (SEEN, LATER):
        with broken(spark, environment, opened(day)):
            for task in (FeatureTableCreation, ModelTrain, ModelInferenceBatch, Outlook):
                if task is not ModelTrain or day == SEEN:
                    settings = (*FORTY, "gates.min_holdout_rows=500") if task is ModelTrain else ()
                    results[f"{task.key()} {day}"] = make_task(
                        task, spark, environment, *settings, f"env.as_of={day}"
                    ).run()
    make_task(FeatureTableCreation, spark, environment, f"env.as_of={OVER}").run()
    return Trained(environment, results)


def opened(day: date) -> str:
    """The statement after which the bookings that arrive on a day or later are open."""
    return f"UPDATE {{bookings}} SET booking_status = 'Open' WHERE date_of_reservation >= DATE'{day}'"
