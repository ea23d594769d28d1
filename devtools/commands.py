"""Add `booking-mlops deployment`, which only a checkout has, to the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from booking_mlops.config.loader import read_yaml
from booking_mlops.errors import ConfigError
from booking_mlops.tasks import task_keys
from devtools.bundle import bundle_files, jobs_of
from devtools.deployment import check

_BUNDLE_HEAD = (
    "# Written from deployment.yml by: booking-mlops deployment to-bundle. Change deployment.yml and write it again.\n"
)


class _PlainDumper(yaml.SafeDumper):
    """A YAML writer without anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (PyYAML's own signature)
        """Write every value where it is used."""
        return True


def add(commands: Any) -> None:
    """Add `deployment check` and `deployment to-bundle` to the subparsers of `booking-mlops`."""
    deployment = commands.add_parser("deployment", help="Check what dbx would deploy, or write it as a bundle.")
    actions = deployment.add_subparsers(title="actions", metavar="ACTION", required=True)
    checking = actions.add_parser("check", help="Find the mistakes that dbx's own reader accepts; needs no workspace.")
    bundling = actions.add_parser("to-bundle", help="Write it as a Databricks Asset Bundle, the successor of dbx.")
    for command in (checking, bundling):
        command.add_argument(
            "--file", metavar="FILE", type=Path, default=Path("deployment.yml"), help="default: deployment.yml"
        )
        command.add_argument("--conf-dir", metavar="DIR", type=Path, default=Path("conf"), help="default: conf")
    checking.set_defaults(action=check_deployment)
    bundling.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="the project's folder; default: here")
    bundling.add_argument("--force", action="store_true", help="replace files that are there")
    bundling.set_defaults(action=to_bundle)


def known_entry_points() -> set[str]:
    """Return the names of the wheel's entry points for tasks: one for each file in booking_mlops/tasks."""
    return {key.replace("_", "-") for key in task_keys()}


def check_deployment(arguments: argparse.Namespace) -> None:
    """Report everything in the deployment file that would fail on Databricks, or do something else than it says.

    Raises: ConfigError with a line for each problem.
    """
    # Every command of a checkout imports this module, so it must not bring Jinja along.
    from devtools.deployment_file import read_deployment

    root: Path = arguments.file.resolve().parent
    tree = read_deployment(arguments.file)
    project = read_yaml(root / ".dbx" / "project.json")
    problems = check(
        tree,
        entry_points=known_entry_points(),
        environments=[file.stem for file in sorted(arguments.conf_dir.glob("envs/*.yml"))],
        project_environments=list(project.get("environments", {})),
        file_exists=lambda name: (root / name).is_file(),
    )
    if project.get("inplace_jinja_support") is not True:
        problems.append("dbx does not render it: set inplace_jinja_support to true in .dbx/project.json")
    if problems:
        raise ConfigError("\nerror: ".join(f"{arguments.file}: {problem}" for problem in problems))
    workflows = sum(len(environment["workflows"]) for environment in tree["environments"].values())
    print(f"{arguments.file}: {workflows} workflows in {len(tree['environments'])} environments are sound")


def to_bundle(arguments: argparse.Namespace) -> None:
    """Write the deployment file as a Databricks Asset Bundle.

    Raises: ConfigError when the deployment file has a problem, or a file is there and `--force` is not given.
    """
    from devtools.deployment_file import read_deployment

    check_deployment(arguments)
    project = read_yaml(arguments.file.resolve().parent / ".dbx" / "project.json")
    files = bundle_files(read_deployment(arguments.file), project)
    there = [name for name in files if (arguments.out / name).exists()]
    if there and not arguments.force:
        raise ConfigError(f"{arguments.out / there[0]} exists; choose another --out, or add --force")
    for name, content in files.items():
        target = arguments.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Without anchors: repeated parts are easier to read and to change when they are written out.
        text = yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=120)
        target.write_text(_BUNDLE_HEAD + text, encoding="utf-8")
        print(target)
    print(f"{sum(1 for _ in jobs_of(files))} jobs; deploy them with: databricks bundle deploy --target ENV")
