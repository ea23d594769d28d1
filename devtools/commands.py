"""Add `booking-mlops deployment`, which only a checkout has, to the command line."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from booking_mlops.config.loader import read_yaml
from booking_mlops.errors import ConfigError, WorkspaceError
from booking_mlops.tasks import task_keys
from devtools.bundle import bundle_files, jobs_of

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

_BUNDLE_HEAD = (
    "# Written from deployment.yml by: booking-mlops deployment to-bundle. Change deployment.yml and write it again.\n"
)


class _PlainDumper(yaml.SafeDumper):
    """A YAML writer without anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (PyYAML's own signature)
        """Write every value where it is used."""
        return True


def add(commands: Any) -> None:
    """Add `deployment` and its actions to the subparsers of `booking-mlops`."""
    deployment = commands.add_parser("deployment", help="Check what dbx would deploy, or write it as a bundle.")
    actions = deployment.add_subparsers(title="actions", metavar="ACTION", required=True)
    checking = actions.add_parser("check", help="Find the mistakes that dbx's own reader accepts; needs no workspace.")
    bundling = actions.add_parser(
        "to-bundle", help="Write it as a Declarative Automation Bundle, the successor of dbx."
    )
    preparing = actions.add_parser("prepare", help="Make an environment's schemas and volumes in its workspace.")
    uploading = actions.add_parser("upload", help="Copy Booking.csv to the volume where an environment reads it.")
    planning = actions.add_parser("plan", help="Say what dbx would create, change and leave; changes nothing.")
    for command in (checking, preparing, uploading, planning, bundling):
        command.add_argument(
            "--file", metavar="FILE", type=Path, default=Path("deployment.yml"), help="default: deployment.yml"
        )
        command.add_argument("--conf-dir", metavar="DIR", type=Path, default=Path("conf"), help="default: conf")
    for command in (preparing, uploading, planning):
        command.add_argument("--env", metavar="ENV", required=True, help="an environment of the deployment file")
    checking.set_defaults(action=check_deployment)
    preparing.set_defaults(action=prepare_workspace)
    planning.set_defaults(action=plan_deployment)
    uploading.add_argument("csv", metavar="FILE", type=Path)
    uploading.set_defaults(action=upload_bookings)
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
    # Every command of a checkout imports this module, so it must not bring along Jinja or what checks a schedule.
    from devtools.clusters import is_serverless
    from devtools.deployment import check
    from devtools.deployment_file import read_deployment

    root: Path = arguments.file.resolve().parent
    tree = read_deployment(arguments.file)
    project = read_yaml(root / ".dbx" / "project.json")
    problems = check(
        tree,
        entry_points=known_entry_points(),
        environments=[file.stem for file in sorted(arguments.conf_dir.glob("envs/*.yml"))],
        project=project,
        file_exists=lambda name: (root / name).is_file(),
    )
    if project.get("inplace_jinja_support") is not True:
        problems.append("dbx does not render it: set inplace_jinja_support to true in .dbx/project.json")
    if problems:
        raise ConfigError("\nerror: ".join(f"{arguments.file}: {problem}" for problem in problems))
    workflows = sum(len(environment["workflows"]) for environment in tree["environments"].values())
    print(f"{arguments.file}: {workflows} workflows in {len(tree['environments'])} environments are sound")
    if any(
        is_serverless(workflow)
        for environment in tree["environments"].values()
        for workflow in environment["workflows"]
    ):
        print("serverless compute: deploy it as a bundle (booking-mlops deployment to-bundle); dbx can't")


def prepare_workspace(arguments: argparse.Namespace) -> None:
    """Make what the environment needs in the workspace of $DATABRICKS_HOST, or of its profile; what is there stays.

    Raises: ConfigError for an environment that is not known; WorkspaceError when the workspace refuses.
    """
    from devtools.deployment_file import read_deployment
    from devtools.preparation import identity, needs, prepare

    environment, project = _environment(arguments)
    workflows = read_deployment(arguments.file)["environments"].get(arguments.env, {}).get("workflows") or []
    prepare(_client(project), needs(environment, project), identity(workflows), print)


def upload_bookings(arguments: argparse.Namespace) -> None:
    """Copy the bookings to where the environment reads them.

    Raises: ConfigError for an environment that is not known or a file that can't be read; WorkspaceError.
    """
    from devtools.preparation import needs, upload

    environment, project = _environment(arguments)
    target = upload(_client(project), arguments.csv, needs(environment, project))
    print(f"{arguments.csv} is {target} in {arguments.env}")


def plan_deployment(arguments: argparse.Namespace) -> None:
    """Print what `dbx deploy` would create, change and leave in the workspace, job by job and field by field.

    Raises: ConfigError when the deployment file has a problem; WorkspaceError when the workspace refuses.
    """
    from databricks.sdk.errors import DatabricksError

    from devtools import deployed, plan
    from devtools.clusters import is_serverless
    from devtools.deployment_file import read_deployment

    check_deployment(arguments)
    _, project = _environment(arguments)
    workflows = read_deployment(arguments.file)["environments"][arguments.env]["workflows"]
    if any(map(is_serverless, workflows)):
        raise ConfigError(f"{arguments.file}: dbx can't deploy to serverless compute; see deployment to-bundle")
    client = _client(project)
    try:
        wanted = deployed.resolved(client, workflows)
        there = deployed.jobs(client, [str(one["name"]) for one in wanted], arguments.env)
    except DatabricksError as error:
        raise WorkspaceError(str(error)) from error
    plans = plan.plan(wanted, there, _wheel(arguments.file.resolve().parent), arguments.env)
    print("\n".join(plan.described(plans)))


def _wheel(root: Path) -> str:
    """Return the name of the wheel that dbx would build.

    Raises: ConfigError when setup.py does not say its version.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "--version"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ConfigError(f"{root / 'setup.py'} --version: {done.stderr.strip().splitlines()[-1]}")
    return f"booking_mlops-{done.stdout.splitlines()[-1]}-py3-none-any.whl"


def _environment(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the environment's YAML, and what .dbx/project.json says about it."""
    file = arguments.file.resolve().parent / ".dbx" / "project.json"
    known = read_yaml(file).get("environments") or {}
    if arguments.env not in known:
        raise ConfigError(f"{file} has no environment {arguments.env}; it has {', '.join(known)}")
    return read_yaml(arguments.conf_dir / "envs" / f"{arguments.env}.yml"), known[arguments.env]


def _client(project: Mapping[str, Any]) -> WorkspaceClient:
    """Return a client of the workspace that dbx would deploy to."""
    from databricks.sdk import WorkspaceClient

    try:
        return WorkspaceClient() if os.environ.get("DATABRICKS_HOST") else WorkspaceClient(profile=project["profile"])
    except ValueError as error:
        raise WorkspaceError(str(error).splitlines()[0]) from error


def to_bundle(arguments: argparse.Namespace) -> None:
    """Write the deployment file as a Declarative Automation Bundle, which was called Databricks Asset Bundle.

    Raises: ConfigError when the deployment file has a problem, or a file is there and `--force` is not given.
    """
    from devtools.deployment_file import read_deployment

    check_deployment(arguments)
    files = bundle_files(read_deployment(arguments.file))
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
