"""Runs tasks: arguments → configuration → session → task → summary → exit code.

What is shared by the command line, the wheel's entry points, notebooks and tests is here: the arguments of a task,
logging, exit codes, the order of the pipeline, and how a process starts quickly.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import io
import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from booking_mlops.config.environment import EnvConfig
from booking_mlops.config.loader import load, load_environment, parse_setting
from booking_mlops.config.paths import python_path
from booking_mlops.errors import BookingMlopsError, ConfigError
from booking_mlops.io.faults import fault_of_the_machine
from booking_mlops.io.machine import Machine
from booking_mlops.session import Clock, Session, utc_now
from booking_mlops.tasks import task_keys, task_type
from booking_mlops.tasks.task import Task

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

PIPELINE = ("setup_data", "feature_table_creation", "model_train", "model_inference_batch", "outlook")
"""The tasks of `booking-mlops run`, in order."""
SOURCE_TASK = "setup_data"
SLOW_IMPORTS = (
    *("sklearn.compose", "sklearn.ensemble", "sklearn.inspection", "sklearn.metrics"),
    *("mlflow.sklearn", "mlflow.models", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
)
"""Modules that later tasks of the pipeline need and that take seconds to import."""
AnyTask = Task[Any, Any]


class Summary(Protocol):
    """What can be shown when a command ends."""

    def summary(self) -> list[tuple[str, str]]:
        """Return label and value of each line."""
        ...


def add_environment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which environment a command works on."""
    parser.add_argument("--env", metavar="ENV", default="local", help="reads CONF_DIR/envs/ENV.yml; default: local")
    parser.add_argument("--conf-dir", metavar="DIR", type=Path, default=Path("conf"), help="default: conf")
    parser.add_argument("--env-file", metavar="FILE", type=python_path, help="the environment's file, instead of --env")
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one value, such as model.max_depth=8 or env.schema=mine; may be repeated",
    )
    parser.add_argument("--verbose", action="store_true", help="log every step")


def add_task_arguments(parser: argparse.ArgumentParser, key: str) -> None:
    """Add the arguments that every task takes."""
    parser.add_argument("--conf-file", metavar="FILE", type=python_path, help=f"default: CONF_DIR/tasks/{key}.yml")
    add_environment_arguments(parser)
    add_as_of_argument(parser)
    if key == SOURCE_TASK:
        add_booking_csv_argument(parser)


def add_booking_csv_argument(parser: argparse.ArgumentParser, prefix: str = "") -> None:
    """Add `--booking-csv`, which is short for a setting of setup-data; `prefix` stands before that setting's name."""

    def setting(path: str) -> str:
        return f"{prefix}source_csv={json.dumps(path, ensure_ascii=False)}"

    parser.add_argument(
        "--booking-csv",
        dest="settings",
        metavar="FILE",
        action="append",
        default=[],
        type=setting,
        help="your own file, folder or pattern of bookings (default: what the environment says); "
        f"short for --set {prefix}source_csv=FILE",
    )


def add_as_of_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--as-of`, which is short for a setting of the environment."""
    parser.add_argument(
        "--as-of",
        dest="settings",
        metavar="DATE",
        action="append",
        default=[],
        type="env.as_of={}".format,
        help="the day the data stand for, such as 2018-10-01 (default: today in UTC); short for --set env.as_of=DATE",
    )


def config_files(key: str, arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return the task's file and the environment's."""
    task_file = getattr(arguments, "conf_file", None) or arguments.conf_dir / "tasks" / f"{key}.yml"
    return task_file, environment_file(arguments)


def environment_file(arguments: argparse.Namespace) -> Path:
    """Return the environment's file."""
    file: Path = arguments.env_file or arguments.conf_dir / "envs" / f"{arguments.env}.yml"
    return file


def load_config(task: type[AnyTask], task_file: Path, env_file: Path, settings: Sequence[str] = ()) -> Any:
    """Return a task's typed configuration.

    Raises: ConfigError.
    """
    return load(task.config_type, task.key(), task_file, env_file, settings, known_tasks=task_keys())


def make_task(
    task: type[AnyTask],
    task_file: str | Path,
    env_file: str | Path,
    settings: Sequence[str] = (),
    *,
    clock: Clock = utc_now,
    spark: SparkSession | None = None,
) -> AnyTask:
    """Return a task with a session of its own, configured by its files and settings.

    Raises: ConfigError.
    """
    config = load_config(task, Path(task_file), Path(env_file), settings)
    return task(config, make_session(task, config, clock=clock, spark=spark))


def make_session(task: type[AnyTask], config: Any, **more: Any) -> Session:
    """Return a session for a task that is the first to use it; Spark is set up for what the task reads."""

    def input_bytes() -> int:
        return task.input_bytes(config, session.machine)

    session = Session(config.env, input_bytes=input_bytes, **more)
    return session


def session_of(arguments: argparse.Namespace) -> Session:
    """Return a session of the environment that the arguments name.

    Raises: ConfigError.
    """
    return Session(load_environment(EnvConfig, environment_file(arguments), arguments.settings))


def run_task(key: str, arguments: argparse.Namespace) -> None:
    """Run one task and print its summary."""
    task = task_type(key)
    show(make_task(task, *config_files(key, arguments), arguments.settings).run())


def main_of(key: str) -> Callable[..., None]:
    """Return a task's program: what the wheel's entry point calls, on Databricks too.

    It returns on success, and exits with code 1 on an expected failure and 2 on a wrong call, so that a job fails where
    it should.
    """

    def main(argv: Sequence[str] | None = None) -> None:
        task = task_type(key)
        parser = argparse.ArgumentParser(prog=task.name, description=task.help)
        add_task_arguments(parser, key)
        arguments = parser.parse_args(argv)
        exit_unless_done(lambda: run_task(key, arguments), verbose=arguments.verbose)

    return main


def run_pipeline(arguments: argparse.Namespace) -> None:
    """Run the tasks of the pipeline in order, in one session, and print what each did."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    settings = _settings_by_task(arguments)
    types = [task_type(key) for key in PIPELINE]
    configs = [load_config(task, *config_files(task.key(), arguments), settings[task.key()]) for task in types]
    session = make_session(types[0], configs[0], archive_classes=True)
    lines: list[str] = []
    pages: list[tuple[str, str]] = []
    with _progress(len(types)) as bar, logging_redirect_tqdm():
        # Spark keeps both cores busy while it starts; the first task leaves one idle.
        _ = session.spark
        _import_in_background()
        for task, config in zip(types, configs, strict=True):
            bar.set_description_str(task.name)
            start = time.monotonic()
            try:
                result = task(config, session).run()
            except BookingMlopsError:
                # What the tasks before it did is the first thing to look at.
                print("\n".join(lines), end="\n\n", flush=True)
                raise
            lines.append(f"\n{task.name}  ({time.monotonic() - start:.1f} s)\n{format_summary(result.summary())}")
            pages += [] if result.page is None else [result.page]
            bar.update()
    print("\n".join(lines))
    print("\nwhere to look")
    print(format_summary([*_where_to_look(session), *_pages(session, pages)]))


def _import_in_background() -> None:
    """Import what later tasks need in a thread, while the first task runs: docs/adr/0010-start-up.md has figures."""

    def load() -> None:
        for name in SLOW_IMPORTS:
            # A module that can't be imported fails in the task that needs it.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        # MLflow looks through every installed package before it logs its first model, and keeps what it found.
        with contextlib.suppress(ImportError):
            from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

            warn_dependency_requirement_mismatches(["mlflow"])

    threading.Thread(target=load, daemon=True).start()


def _spare_garbage_collection() -> None:
    """Collect garbage seldom, and not at exit: a program that imports this much and ends soon has little of it."""
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)


def _settings_by_task(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Return the settings of each task of the pipeline: those that name it, and those of the environment."""
    settings: dict[str, list[str]] = {key: [] for key in PIPELINE}
    for setting in arguments.settings:
        parts, _ = parse_setting(setting)
        if parts[0] == "env":
            for own in settings.values():
                own.append(setting)
        elif parts[0] in settings:
            settings[parts[0]].append(setting.partition(".")[2])
        else:
            raise ConfigError(
                f"--set {setting}: begin with the task, such as --set model_train.model.max_depth=8, or env."
            )
    return settings


def _progress(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="task", disable=None, leave=False, bar_format="{n}/{total} {bar:20} {desc} {elapsed}")


def _where_to_look(session: Session) -> list[tuple[str, str]]:
    env, machine, registry = session.env, session.machine, session.registry
    database = machine.database(env.catalog, env.schema)
    lines = [("tables", database)]
    if not machine.on_cluster:
        lines.append(("", str(_database_folder(machine, database))))
    lines.append(("MLflow", registry.tracking_uri))
    if registry.tracking_uri == machine.tracking_uri:
        lines.append(("", f"see it with: mlflow ui --backend-store-uri {shlex.quote(registry.tracking_uri)}"))
    return lines


def _pages(session: Session, pages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a line for each page: where it is, ready to be opened."""
    addresses = [session.registry.address(run_id, name) for run_id, name in pages]
    return [("pages" if n == 0 else "", address) for n, address in enumerate(addresses)]


def _database_folder(machine: Machine, database: str) -> Path:
    return machine.warehouse / f"{database.removeprefix('spark_catalog.')}.db"


def exit_unless_done(action: Callable[[], object], *, verbose: bool = False) -> None:
    """Run `action` and exit the process with its code, unless that is 0."""
    code = exit_code_of(action, verbose=verbose)
    if code:
        sys.exit(code)


def exit_code_of(action: Callable[[], object], *, verbose: bool = False) -> int:
    """Run `action` and return its exit code; an expected failure becomes one line on stderr and code 1.

    So does what the machine refuses, such as room on a disk; `verbose` shows where it did.
    """
    start_logging(verbose)
    _speak_in_any_locale()
    _spare_garbage_collection()
    try:
        action()
    except BookingMlopsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        fault = fault_of_the_machine(error)
        if fault is None:
            raise
        log.debug("what the machine refused", exc_info=True)
        print(f"error: {fault}", file=sys.stderr)
        return 1
    return 0


def _speak_in_any_locale() -> None:
    """Write signs that the locale's encoding lacks as their numbers, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        # A notebook's take every sign.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def start_logging(verbose: bool) -> None:
    """Log to stderr: the project's own steps always, other libraries' only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("booking_mlops").setLevel(logging.DEBUG if verbose else logging.INFO)
    # MLflow would set its own levels and handlers when it is imported.
    os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")
    for name in ("py4j", "mlflow", "alembic", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)


def format_summary(lines: Sequence[tuple[str, str]]) -> str:
    """Return labels and values in two columns."""
    width = max((len(label) for label, _ in lines), default=0)
    return "\n".join(f"  {label:<{width}}  {value}" for label, value in lines)


def show(result: Summary) -> None:
    """Print a result's summary."""
    print(format_summary(result.summary()))
