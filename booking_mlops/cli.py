"""`booking-mlops`: every task, all of them in order, and the checks."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from booking_mlops.config.paths import python_path
from booking_mlops.core.bookings import synthetic_data
from booking_mlops.errors import ConfigError
from booking_mlops.runner import (
    Summary,
    add_as_of_argument,
    add_booking_csv_argument,
    add_environment_arguments,
    add_task_arguments,
    config_files,
    exit_unless_done,
    load_config,
    run_pipeline,
    run_task,
    session_of,
    show,
)
from booking_mlops.services.versions import compare, history, reproduce
from booking_mlops.session import Session
from booking_mlops.tasks import task_keys, task_type, task_types

if TYPE_CHECKING:
    import pandas as pd

_TRAINING, _ROLLBACK, _APPROVAL = "model_train", "model_rollback", "model_approve"

_EXAMPLES = """\
examples:
  booking-mlops run                                  everything, on synthetic data, in the environment local
  booking-mlops run --booking-csv path/Booking.csv   everything, on your own file
  booking-mlops model-train --set model.max_depth=8
  booking-mlops config validate                      check every YAML file of every environment
"""


def validate_configs(arguments: argparse.Namespace) -> None:
    """Load every task's configuration in every environment; report all that is wrong."""
    folder: Path = arguments.conf_dir
    env_files = [folder / "envs" / f"{arguments.env}.yml"] if arguments.env else sorted(folder.glob("envs/*.yml"))
    if not env_files:
        raise ConfigError(f"{folder}/envs: no environment files; start in the project's folder, or name it: --conf-dir")
    problems = []
    for env_file in env_files:
        for task in task_types():
            try:
                load_config(task, folder / "tasks" / f"{task.key()}.yml", env_file)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("\nerror: ".join(dict.fromkeys(problems)))
    names = ", ".join(file.stem for file in env_files)
    print(f"{len(task_keys())} tasks valid in {len(env_files)} environments: {names}")


def show_config(arguments: argparse.Namespace) -> None:
    """Print every value of a task, defaults included, as files and settings leave it."""
    task = task_type(_key(arguments.task))
    config = load_config(task, *config_files(task.key(), arguments), arguments.settings)
    # By way of JSON, whose lists and mappings are YAML's.
    values = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


def write_synthetic_data(arguments: argparse.Namespace) -> None:
    """Write synthetic bookings as a CSV file."""
    from tqdm import tqdm

    if arguments.rows < 1:
        raise ConfigError(f"--rows {arguments.rows}: must be at least 1")
    target: Path = arguments.out
    if target.exists() and not arguments.force:
        raise ConfigError(f"{target} exists; choose another --out, or add --force")
    target.parent.mkdir(parents=True, exist_ok=True)
    part, written = target.with_name(f"{target.name}.part"), 0
    with part.open("w", encoding="utf-8") as file, tqdm(total=arguments.rows, unit="row", disable=None) as bar:
        for number, chunk in enumerate(_synthetic_chunks(arguments)):
            file.writelines(f"{line}\n" for line in synthetic_data.csv_lines(chunk, header=number == 0))
            bar.update(len(chunk))
            written += len(chunk)
    part.replace(target)
    print(f"{written:,} synthetic bookings in {target}")


def _synthetic_chunks(arguments: argparse.Namespace) -> Iterable[pd.DataFrame]:
    if arguments.as_of is None:
        return synthetic_data.synthetic_chunks(arguments.rows, arguments.seed)
    return [synthetic_data.bookings_as_of(arguments.as_of, arguments.rows, arguments.seed)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="booking-mlops",
        description="Predict which bookings will be cancelled: data in, model judged and promoted, scores out.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, action: Callable[[argparse.Namespace], object], text: str, aliases: Sequence[str] = ()
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, aliases=list(aliases))
        command.set_defaults(action=action)
        return command

    run = add("run", run_pipeline, "Run all tasks in order, in one process, and sum up what they did.")
    add_environment_arguments(run)
    add_as_of_argument(run)
    add_booking_csv_argument(run, "setup_data.")
    for task in task_types():
        add_task_arguments(add(task.name, _task_action(task.key()), task.help), task.key())

    config = commands.add_parser("config", help="Check or show the configuration.")
    actions = config.add_subparsers(title="actions", metavar="ACTION", required=True)
    validate = actions.add_parser("validate", help="Check every task's YAML in every environment.")
    validate.add_argument("--conf-dir", metavar="DIR", type=Path, default=Path("conf"), help="default: conf")
    validate.add_argument("--env", metavar="ENV", help="only this environment")
    validate.set_defaults(action=validate_configs)
    shown = actions.add_parser("show", help="Print every value of a task, defaults included.")
    shown.add_argument("task", choices=[_name(key) for key in task_keys()])
    shown.add_argument("--conf-file", metavar="FILE", type=python_path)
    add_environment_arguments(shown)
    shown.set_defaults(action=show_config)

    _add_model_commands(commands)

    _add_checkout_commands(commands)

    data = add(
        "synthetic-data", write_synthetic_data, "Write synthetic bookings in the form of Booking.csv.", ["make-data"]
    )
    data.add_argument("--rows", type=int, default=20_000, help="default: 20000")
    data.add_argument(
        "--as-of",
        metavar="DATE",
        type=date.fromisoformat,
        help="as they stand on that day, about --rows, some of them open (default: all have ended)",
    )
    data.add_argument("--seed", type=int, default=7, help="default: 7")
    data.add_argument("--out", metavar="FILE", type=Path, default=Path("Booking.csv"), help="default: Booking.csv")
    data.add_argument("--force", action="store_true", help="replace the file when it is there")
    return parser


def _add_checkout_commands(commands: Any) -> None:
    """Add the commands of the folder `devtools`, which a checkout has beside the package and a wheel has not."""
    root = Path(__file__).resolve().parent.parent
    if (root / "devtools" / "commands.py").is_file():
        sys.path.insert(0, str(root))
        importlib.import_module("devtools.commands").add(commands)


def _add_model_commands(commands: Any) -> None:
    model = commands.add_parser("model", help="History, comparison, approval, rollback and reproduction of versions.")
    actions = model.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(name: str, text: str, action: Callable[[argparse.Namespace], Summary]) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        command.set_defaults(action=lambda arguments: show(action(arguments)))
        return command

    past = add("history", "Every promotion decision, newest first.", lambda a: history(session_of(a), a.limit))
    add_environment_arguments(past)
    past.add_argument("--limit", type=int, metavar="N", help="only the last N")
    two = add("compare", "Two versions on the same holdout, without promoting.", _compare)
    add_task_arguments(two, _TRAINING)
    two.add_argument("a", type=int, metavar="A", help="version in the challenger's place")
    two.add_argument("b", type=int, metavar="B", help="version in the champion's place")
    again = add(
        "reproduce",
        "Train a version again; its predictions must be identical.",
        lambda a: reproduce(session_of(a), a.version),
    )
    add_environment_arguments(again)
    again.add_argument("version", type=int, metavar="VERSION")
    approval = task_type(_APPROVAL)
    approve = actions.add_parser("approve", help=approval.help, description=approval.help)
    add_task_arguments(approve, _APPROVAL)
    approve.add_argument("version", type=int, metavar="VERSION")
    approve.add_argument("--reason", required=True, help="goes into the promotions table")
    approve.set_defaults(action=_approve)
    back = actions.add_parser("rollback", help=task_type(_ROLLBACK).help, description=task_type(_ROLLBACK).help)
    add_task_arguments(back, _ROLLBACK)
    back.add_argument("--to", type=int, metavar="VERSION", help="default: the previous champion")
    back.add_argument("--reason", required=True, help="goes into the promotions table")
    back.set_defaults(action=_rollback)


def _compare(arguments: argparse.Namespace) -> Summary:
    task = task_type(_TRAINING)
    config = load_config(task, *config_files(_TRAINING, arguments), arguments.settings)
    return compare(Session(config.env), config, config.comparison, arguments.a, arguments.b)


def _rollback(arguments: argparse.Namespace) -> None:
    own = [f"reason={json.dumps(arguments.reason, ensure_ascii=False)}"] + (
        [f"to={arguments.to}"] if arguments.to is not None else []
    )
    arguments.settings = [*arguments.settings, *own]
    run_task(_ROLLBACK, arguments)


def _approve(arguments: argparse.Namespace) -> None:
    arguments.settings = [*arguments.settings, f"version={arguments.version}", _reason(arguments.reason)]
    run_task(_APPROVAL, arguments)


def _reason(text: str) -> str:
    # YAML does not put together the two halves in which JSON writes an emoji.
    return f"reason={json.dumps(text, ensure_ascii=False)}"


def _task_action(key: str) -> Callable[[argparse.Namespace], None]:
    return lambda arguments: run_task(key, arguments)


def _name(key: str) -> str:
    return key.replace("_", "-")


def _key(name: str) -> str:
    return name.replace("-", "_")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exits with 1 on an expected failure, 2 on a wrong call."""
    arguments = _parser().parse_args(argv)
    exit_unless_done(lambda: arguments.action(arguments), verbose=getattr(arguments, "verbose", False))
