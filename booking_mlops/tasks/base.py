"""The abstract task: typed config in, typed result out, one entry point for the command line and for Databricks."""

from __future__ import annotations

import argparse
import atexit
import gc
import getpass
import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from booking_mlops.config.loader import load
from booking_mlops.config.model import EnvConfig
from booking_mlops.core.bookings.schema import Table
from booking_mlops.errors import BookingMlopsError
from booking_mlops.io.machine import Machine, this_machine
from booking_mlops.io.registry import Registry
from booking_mlops.io.spark import spark_session
from booking_mlops.io.tables import INDEXED_COLUMNS, Lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ConfigT = TypeVar("ConfigT")
ResultT = TypeVar("ResultT", bound="Result")
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(timezone.utc)


class Result(ABC):
    """What a task did, for people and for other programs."""

    @abstractmethod
    def summary(self) -> list[tuple[str, str]]:
        """Label and value of each line of the closing summary."""


class Task(ABC, Generic[ConfigT, ResultT]):
    """A step of the pipeline. A subclass is its name, its config type and its `run`.

    `spark` and `clock` are for tests and for running several tasks in one session; a task on its own
    finds both.
    """

    name: ClassVar[str]
    """The command, such as `model-train`."""
    config_type: ClassVar[type]
    help: ClassVar[str]
    slow_imports: ClassVar[tuple[str, ...]] = ()
    """Modules that take long to import and are not needed at once: `run` imports them while another task works."""

    def __init__(self, config: ConfigT, *, spark: SparkSession | None = None, clock: Clock = utc_now) -> None:
        self.config = config
        self.clock = clock
        self.log = logging.getLogger(f"booking_mlops.{self.key()}")
        self._given_spark = spark
        self.while_spark_rests: Callable[[], None] = lambda: None
        """Called by a task that will keep itself busy without Spark for a while; returns at once."""
        self.keep_classes = False
        """Whether a Spark started here is to keep its classes for later starts: for what uses most of them."""

    @classmethod
    def key(cls) -> str:
        """The task's key in YAML, such as `model_train`."""
        return cls.name.replace("-", "_")

    @abstractmethod
    def run(self) -> ResultT:
        """Do the work."""

    def warm_up(self) -> None:
        """Start what the task will wait for, and return at once: an earlier task leaves Spark alone for a while."""

    @property
    def env(self) -> EnvConfig:
        """The environment."""
        return self.config.env  # type: ignore[attr-defined, no-any-return]

    @cached_property
    def machine(self) -> Machine:
        """The machine this runs on."""
        return this_machine(os.environ)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session, started on first use."""
        if self._given_spark is not None:
            return self._given_spark
        return spark_session(
            self.machine, self.env.spark_conf, os.environ, self.bytes_to_read, keep_classes=self.keep_classes
        )

    def bytes_to_read(self) -> int:
        """At most how much the task reads, on a laptop."""
        return self.machine.table_bytes()

    @cached_property
    def lake(self) -> Lake:
        """The environment's tables."""
        return Lake(self.spark, self.machine.database(self.env.catalog, self.env.schema))

    @cached_property
    def registry(self) -> Registry:
        """The environment's experiment and model."""
        return Registry(
            self.machine,
            model_name=self.env.model_name,
            experiment=self.env.experiment,
            tracking_uri=self.env.tracking_uri,
            registry_uri=self.env.registry_uri,
        )

    @property
    def in_unity_catalog(self) -> bool:
        """Whether the environment's catalog is one of Unity Catalog's."""
        return self.env.catalog not in ("spark_catalog", "hive_metastore")

    def ensure_table(self, table: Table) -> None:
        """Create one of the project's tables when it is not there."""
        self.lake.ensure(
            table.name,
            [(column.name, column.sql_type, column.comment, column.nullable) for column in table.columns],
            comment=table.comment,
            partition_by=table.partition_by,
            properties={} if table.indexed_columns is None else {INDEXED_COLUMNS: str(table.indexed_columns)},
            # A laptop's catalog has no keys, whatever its name.
            primary_key=table.key if self.in_unity_catalog and self.machine.on_cluster else (),
        )

    def write_once(self, table: Table, frame: DataFrame, fingerprint: str, *, where: str = "true") -> bool:
        """Put `frame` in the place of the rows that meet `where`, and create the table when it is not there.

        False when its last write stands for `fingerprint` already: then nothing is written.
        """
        if self.lake.fingerprint(table.name) == fingerprint:
            self.log.info("%s is up to date", table.name)
            return False
        self.ensure_table(table)
        self.log.info("writing %s", table.name)
        self.lake.replace(table.name, frame, where=where, fingerprint=fingerprint)
        return True

    @staticmethod
    def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
        """The arguments that do not depend on the task."""
        parser.add_argument("--env", metavar="ENV", default="local", help="reads CONF_DIR/envs/ENV.yml; default: local")
        parser.add_argument("--conf-dir", metavar="DIR", type=Path, default=Path("conf"), help="default: conf")
        parser.add_argument("--env-file", metavar="FILE", type=Path, help="the environment's file, instead of --env")
        parser.add_argument(
            "--set",
            dest="settings",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="override one value, such as forest.max_depth=8 or env.schema=mine; may be repeated",
        )
        parser.add_argument("--verbose", action="store_true", help="log every step")

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """The arguments every task takes."""
        parser.add_argument("--conf-file", metavar="FILE", type=Path, help=f"default: CONF_DIR/tasks/{cls.key()}.yml")
        cls.add_shared_arguments(parser)

    @classmethod
    def files(cls, arguments: argparse.Namespace) -> tuple[Path, Path]:
        """The task's file and the environment's."""
        folder: Path = arguments.conf_dir
        return (
            arguments.conf_file or folder / "tasks" / f"{cls.key()}.yml",
            arguments.env_file or folder / "envs" / f"{arguments.env}.yml",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace, settings: Sequence[str] | None = None) -> Task[Any, Any]:
        """The task, configured.

        Raises: ConfigError.
        """
        return cls.from_files(*cls.files(arguments), settings=arguments.settings if settings is None else settings)

    @classmethod
    def from_files(cls, task_file: str | Path, env_file: str | Path, settings: Sequence[str] = ()) -> Task[Any, Any]:
        """The task, configured: for notebooks and other programs.

        Raises: ConfigError.
        """
        config: Any = load(cls.config_type, cls.key(), Path(task_file), Path(env_file), settings, known_tasks=TASK_KEYS)
        return cls(config)

    @classmethod
    def entrypoint(cls, argv: Sequence[str] | None = None) -> None:
        """The task as a program: what the wheel's entry point calls, on Databricks too.

        Returns on success; exits with code 1 on an expected failure and 2 on a wrong call, so that
        a job fails where it should.
        """
        parser = argparse.ArgumentParser(prog=cls.name, description=cls.help)
        cls.add_arguments(parser)
        arguments = parser.parse_args(argv)
        code = guarded(lambda: show(cls.from_arguments(arguments).run()), verbose=arguments.verbose)
        if code:
            sys.exit(code)


TASK_KEYS = (
    "setup_data",
    "feature_table_creation",
    "model_train",
    "model_inference_batch",
    "model_monitor",
    "model_rollback",
    "integration_test",
)


def start_logging(verbose: bool) -> None:
    """Log to stderr: the project's own steps always, other libraries' only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("booking_mlops").setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in ("py4j", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)


def guarded(action: Callable[[], object], *, verbose: bool = False) -> int:
    """Run `action`; an expected failure becomes one line on stderr. Returns the exit code."""
    start_logging(verbose)
    # A program that imports this much and ends soon gains nothing from collecting early, or at its very end.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        action()
    except BookingMlopsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def format_summary(lines: Sequence[tuple[str, str]]) -> str:
    """Labels and values in two columns."""
    width = max((len(label) for label, _ in lines), default=0)
    return "\n".join(f"  {label:<{width}}  {value}" for label, value in lines)


def show(result: Result) -> None:
    """Print a result's summary."""
    print(format_summary(result.summary()))


def principal() -> str:
    """Who runs this process: the operator's name for it, else the account."""
    try:
        return os.environ.get("BOOKING_PRINCIPAL") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
