"""`booking-mlops`: every task, all of them in order, and the checks."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from booking_mlops.config.loader import load, load_tree, parse_setting
from booking_mlops.core.bookings import synthetic_data
from booking_mlops.errors import ConfigError
from booking_mlops.tasks.base import TASK_KEYS, Result, Task, format_summary, guarded, show
from booking_mlops.tasks.feature_table_creation import FeatureTableCreation
from booking_mlops.tasks.integration_test import IntegrationTest
from booking_mlops.tasks.model_inference_batch import ModelInferenceBatch
from booking_mlops.tasks.model_monitor import ModelMonitor
from booking_mlops.tasks.model_rollback import ModelRollback
from booking_mlops.tasks.model_train import ModelTrain
from booking_mlops.tasks.model_versions import compare, history, reproduce
from booking_mlops.tasks.setup_data import SetupData

PIPELINE: tuple[type[Task[Any, Any]], ...] = (SetupData, FeatureTableCreation, ModelTrain, ModelInferenceBatch)
TASKS: tuple[type[Task[Any, Any]], ...] = (*PIPELINE, ModelMonitor, ModelRollback, IntegrationTest)

_EXAMPLES = """\
examples:
  booking-mlops run                                  everything, on made data, in the environment local
  booking-mlops run --booking-csv path/Booking.csv   everything, on your own file
  booking-mlops model-train --set forest.max_depth=8
  booking-mlops config validate                      check every YAML file of every environment
"""


def _progress(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="task", disable=None, leave=False, bar_format="{n}/{total} {bar:20} {desc} {elapsed}")


def _import_early(tasks: Sequence[Task[Any, Any]]) -> None:
    """Import what later tasks need: the first waits for Spark most of its time, and needs no more than one core."""
    for name in dict.fromkeys(name for task in tasks for name in task.slow_imports):
        # What can't be imported is the task's to say.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def run_pipeline(arguments: argparse.Namespace) -> None:
    """All tasks in order, in one Spark session."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    keys = {task.key(): task for task in PIPELINE}
    settings: dict[str, list[str]] = {key: [] for key in keys}
    for setting in arguments.settings:
        parts, _ = parse_setting(setting)
        if parts[0] == "env":
            for own in settings.values():
                own.append(setting)
        elif parts[0] in keys:
            settings[parts[0]].append(setting.partition(".")[2])
        else:
            raise ConfigError(
                f"--set {setting}: begin with the task, such as --set model_train.forest.max_depth=8, or env."
            )
    if arguments.booking_csv is not None:
        # A file that was asked for by name must be there.
        settings[SetupData.key()] += [f"source_csv={str(arguments.booking_csv)!r}", "make_data=false"]
    tasks = [task.from_arguments(arguments, settings[key]) for key, task in keys.items()]

    for task, following in itertools.pairwise(tasks):
        task.while_spark_rests = following.warm_up
    results: list[tuple[Task[Any, Any], Result, float]] = []
    with _progress(len(tasks)) as bar, logging_redirect_tqdm():
        tasks[0].keep_classes = True
        # Both cores are Spark's while it starts.
        _ = tasks[0].spark
        threading.Thread(target=_import_early, args=(tasks,)).start()
        for task in tasks:
            bar.set_description_str(task.name)
            start = time.monotonic()
            results.append((task, task.run(), time.monotonic() - start))
            bar.update()
    for task, result, seconds in results:
        print(f"\n{task.name}  ({seconds:.1f} s)")
        print(format_summary(result.summary()))
    _where_to_look(tasks[0])


def _where_to_look(task: Task[Any, Any]) -> None:
    print("\nwhere to look")
    lines = [("tables", task.machine.database(task.env.catalog, task.env.schema))]
    if not task.machine.on_cluster:
        folder = lines[0][1].removeprefix("spark_catalog.")
        lines.append(("", str(task.machine.warehouse / f"{folder}.db")))
    lines.append(("MLflow", task.registry.tracking_uri))
    if task.registry.tracking_uri == task.machine.tracking_uri:
        lines.append(("", f"see it with: mlflow ui --backend-store-uri {task.registry.tracking_uri}"))
    print(format_summary(lines))


def validate_configs(arguments: argparse.Namespace) -> None:
    """Load every task's configuration in every environment; report all that is wrong."""
    folder: Path = arguments.conf_dir
    env_files = [folder / "envs" / f"{arguments.env}.yml"] if arguments.env else sorted(folder.glob("envs/*.yml"))
    if not env_files:
        raise ConfigError(f"{folder}/envs: no environment files")
    problems = []
    for env_file in env_files:
        for task in TASKS:
            task_file = folder / "tasks" / f"{task.key()}.yml"
            try:
                load(task.config_type, task.key(), task_file, env_file, known_tasks=TASK_KEYS)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("\nerror: ".join(dict.fromkeys(problems)))
    names = ", ".join(file.stem for file in env_files)
    print(f"{len(TASKS)} tasks valid in {len(env_files)} environments: {names}")


def show_config(arguments: argparse.Namespace) -> None:
    """Print a task's values as they come out of its files and settings."""
    task = {one.name: one for one in TASKS}[arguments.task]
    task.from_arguments(arguments)
    tree = load_tree(task.config_type, task.key(), *task.files(arguments), arguments.settings, TASK_KEYS)
    print(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), end="")


def make_data(arguments: argparse.Namespace) -> None:
    """Write made bookings as a CSV file."""
    from tqdm import tqdm

    if arguments.rows < 1:
        raise ConfigError(f"--rows {arguments.rows}: must be at least 1")
    target: Path = arguments.out
    if target.exists() and not arguments.force:
        raise ConfigError(f"{target} exists; choose another --out, or add --force")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with part.open("w", encoding="utf-8") as file, tqdm(total=arguments.rows, unit="row", disable=None) as bar:
        for number, chunk in enumerate(synthetic_data.make_chunks(arguments.rows, arguments.seed)):
            file.writelines(f"{line}\n" for line in synthetic_data.as_lines(chunk, header=number == 0))
            bar.update(len(chunk))
    part.replace(target)
    print(f"{arguments.rows:,} made bookings in {target}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="booking-mlops",
        description="Predict which bookings will be cancelled: data in, model judged and promoted, scores out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, action: Callable[[argparse.Namespace], object], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(action=action)
        return command

    run = add("run", run_pipeline, "Run all tasks in order, in one process, and sum up what they did.")
    Task.add_shared_arguments(run)
    run.add_argument(
        "--booking-csv", metavar="FILE", type=Path, help="your own Booking.csv (default: what the environment says)"
    )
    run.set_defaults(conf_file=None)
    for task in TASKS:
        command = add(task.name, _run_task(task), task.help)
        task.add_arguments(command)

    config = commands.add_parser("config", help="Check or show the configuration.")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    validate = actions.add_parser("validate", help="Check every task's YAML in every environment.")
    validate.add_argument("--conf-dir", metavar="DIR", type=Path, default=Path("conf"), help="default: conf")
    validate.add_argument("--env", metavar="ENV", help="only this environment")
    validate.set_defaults(action=validate_configs)
    shown = actions.add_parser("show", help="Print a task's merged values.")
    shown.add_argument("task", choices=[task.name for task in TASKS])
    Task.add_shared_arguments(shown)
    shown.add_argument("--conf-file", metavar="FILE", type=Path)
    shown.set_defaults(action=show_config)

    _add_model_commands(commands)

    _add_checkout_commands(commands)

    made = add("make-data", make_data, "Write made bookings in the form of Booking.csv.")
    made.add_argument("--rows", type=int, default=20_000, help="default: 20000")
    made.add_argument("--seed", type=int, default=7, help="default: 7")
    made.add_argument("--out", metavar="FILE", type=Path, default=Path("Booking.csv"), help="default: Booking.csv")
    made.add_argument("--force", action="store_true", help="replace the file when it is there")
    return parser


def _add_checkout_commands(commands: Any) -> None:
    """Add the commands of the folder `devtools`, which a checkout has beside the package and a wheel has not."""
    root = Path(__file__).resolve().parent.parent
    if (root / "devtools" / "commands.py").is_file():
        sys.path.insert(0, str(root))
        importlib.import_module("devtools.commands").add(commands)


def _add_model_commands(commands: Any) -> None:
    model = commands.add_parser("model", help="History, comparison, rollback and reproduction of registered versions.")
    actions = model.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(name: str, text: str, ask: Callable[[Any, argparse.Namespace], Result]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        ModelTrain.add_arguments(command)
        command.set_defaults(action=lambda arguments: show(ask(ModelTrain.from_arguments(arguments), arguments)))
        return command

    past = add("history", "Every promotion decision, newest first.", lambda task, a: history(task, a.limit))
    past.add_argument("--limit", type=int, metavar="N", help="only the last N")
    two = add(
        "compare", "Two versions on the same holdout, without promoting.", lambda task, a: compare(task, a.a, a.b)
    )
    two.add_argument("a", type=int, metavar="A", help="version in the challenger's place")
    two.add_argument("b", type=int, metavar="B", help="version in the champion's place")
    again = add(
        "reproduce", "Train a version again; its predictions must be identical.", lambda t, a: reproduce(t, a.version)
    )
    again.add_argument("version", type=int, metavar="VERSION")

    back = actions.add_parser("rollback", help=ModelRollback.help, description=ModelRollback.help)
    ModelRollback.add_arguments(back)
    back.add_argument("--to", type=int, metavar="VERSION", help="default: the previous champion")
    back.add_argument("--reason", required=True, help="goes into the promotions table")
    back.set_defaults(action=_rollback)


def _rollback(arguments: argparse.Namespace) -> None:
    own = [f"reason={json.dumps(arguments.reason)}"] + ([f"to={arguments.to}"] if arguments.to is not None else [])
    show(ModelRollback.from_arguments(arguments, [*arguments.settings, *own]).run())


def _run_task(task: type[Task[Any, Any]]) -> Callable[[argparse.Namespace], None]:
    def action(arguments: argparse.Namespace) -> None:
        show(task.from_arguments(arguments).run())

    return action


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Exits with 1 on an expected failure, 2 on a wrong call."""
    arguments = _parser().parse_args(argv)
    code = guarded(lambda: arguments.action(arguments), verbose=getattr(arguments, "verbose", False))
    if code:
        sys.exit(code)
