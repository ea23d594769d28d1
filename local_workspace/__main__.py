"""Run `python -m local_workspace`: serve the workspaces, or run one command against them."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from local_workspace.addresses import client_variables, workspace_url
from local_workspace.dbfs import is_in_root
from local_workspace.errors import UserError
from local_workspace.project import environments_of
from local_workspace.runs.requests import RunRequest
from local_workspace.runs.settings import run_as
from local_workspace.server import running
from local_workspace.store import JOB, VOLUME, Document, Store
from local_workspace.workspaces import Workspaces

_DESCRIPTION = """\
Serve a Databricks workspace on this machine, for the real dbx. The control plane is a stand-in; what it runs is
real: each task is a process from the deployed wheel, on real Spark, Delta and MLflow. There is a workspace for each
environment in the project's .dbx/project.json. The server listens on 127.0.0.1 only; whoever holds its token can run
code here, as on Databricks.
"""

_EXAMPLES = """\
examples:
  python -m local_workspace exec --env prod -- booking-mlops deployment prepare --env prod
  python -m local_workspace exec -- dbx deploy --environment prod
  python -m local_workspace put path/to/Booking.csv prod:/Volumes/prod/booking/files/Booking.csv
  python -m local_workspace exec -- dbx launch prod-booking-pipeline --environment prod --trace
  python -m local_workspace serve        keeps the server up and prints what to export
"""

# The port stays the same, so that pages can be bookmarked.
_PORT_OF_SERVE = 8766


def _running(arguments: argparse.Namespace) -> AbstractContextManager[Workspaces]:
    return running(arguments.root, arguments.environments, arguments.port, dbfs_root=arguments.dbfs_root)


def serve(arguments: argparse.Namespace) -> int:
    """Keep the workspaces up until interrupted."""
    environment = _known_environment(arguments, "--env", arguments.env or arguments.environments[0])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _running(arguments) as workspaces:
        print(f"local workspace at {workspaces.url}, kept in {arguments.root}")
        print(f"open it: {workspaces.url}/login?token={workspaces.token}\n")
        print(f"In another terminal, for {environment}:\n")
        for name, value in client_variables(workspaces.url, workspaces.token, environment).items():
            print(f"export {name}={value}")
        names = ", ".join(arguments.environments)
        print(f"\nOther environments: DATABRICKS_HOST={workspace_url('ENV')} with ENV one of {names}")
        print("\nOr for the Databricks CLI and the SDK, in ~/.databrickscfg, with the proxy exported as above:\n")
        for name in arguments.environments:
            print(f"[local-{name}]\nhost  = {workspace_url(name)}\ntoken = {workspaces.token}\n")
        print(f"and then, for example: databricks --profile local-{environment} jobs list")
        sys.stdout.flush()
        stop.wait()
    return 0


def execute(arguments: argparse.Namespace) -> int:
    """Run one command against the workspaces, stop them after it, and return its exit code."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        example = f"python -m local_workspace exec -- dbx deploy --environment {arguments.environments[0]}"
        raise UserError(f"exec needs a command to run, for example: {example}")
    if arguments.env:
        environment = _known_environment(arguments, "--env", arguments.env)
    else:
        environment = _environment_of(command, arguments.environments)
    with _running(arguments) as workspaces:
        own_programs = str(Path(sys.executable).parent)
        env = {
            **os.environ,
            "PATH": f"{own_programs}{os.pathsep}{os.environ.get('PATH', '')}",
            **client_variables(workspaces.url, workspaces.token, environment),
        }
        try:
            child = subprocess.Popen(command, env=env)
        except FileNotFoundError:
            raise UserError(f"{command[0]}: no such program") from None
        # Leave an interruption to the command: dbx cancels its run then.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return child.wait()
        finally:
            signal.signal(signal.SIGINT, previous)


def _environment_of(command: Sequence[str], environments: Sequence[str]) -> str:
    """Return the environment that a dbx command names, or the first when it names none."""
    for index, word in enumerate(command):
        name, _, value = word.partition("=")
        if name in ("--environment", "-e"):
            value = value or (command[index + 1] if index + 1 < len(command) else "")
            if value in environments:
                return value
    return environments[0]


def put(arguments: argparse.Namespace) -> int:
    """Copy a file to a volume of a workspace, or to its DBFS root when it has one."""
    environment, _, path = arguments.destination.partition(":")
    if environment not in arguments.environments or not path.startswith("/"):
        names = ", ".join(arguments.environments)
        raise UserError(f"{arguments.destination}: expected ENV:/path with ENV one of {names}")
    if not arguments.file.is_file():
        raise UserError(f"{arguments.file}: no such file")
    with _running(arguments) as workspaces:
        if is_in_root(path) and not arguments.dbfs_root:
            raise UserError(f"{path}: there is no DBFS root without --dbfs-root; put the file into /Volumes/…")
        _refuse_missing_volume(workspaces.store, environment, path)
        workspaces.layout.dbfs(environment).write(path, arguments.file.read_bytes())
    print(f"{arguments.file} is dbfs:{path} in {environment}")
    return 0


def _refuse_missing_volume(store: Store, environment: str, path: str) -> None:
    parts = path.lower().strip("/").split("/")
    if parts[0] == "volumes" and store.get(environment, VOLUME, ".".join(parts[1:4])) is None:
        catalog, schema, volume = [*parts[1:4], "CATALOG", "SCHEMA", "VOLUME"][:3]
        raise UserError(
            f"{path}: {environment} has no such volume; create it while the workspace is up, for example with: "
            f"databricks volumes create {catalog} {schema} {volume} MANAGED"
        )


def fire(arguments: argparse.Namespace) -> int:
    """Run each job of an environment whose schedule is not paused, one after the other; return 1 if one failed."""
    environment = _known_environment(arguments, "environment", arguments.environment)
    failed = False
    with _running(arguments) as workspaces:
        jobs = [job for job in workspaces.store.all(environment, JOB) if _is_scheduled(job)]
        for job in jobs:
            creator = job["creator_user_name"]
            request = RunRequest(creator, run_as(job["settings"], creator), job_id=job["job_id"], trigger="PERIODIC")
            run_id = workspaces.engine.submit(environment, job["settings"], request)
            result = workspaces.engine.wait(environment, run_id)["state"].get("result_state")
            print(f"{job['settings']['name']}: run {run_id}: {result}")
            failed = failed or result != "SUCCESS"
    if not jobs:
        print(f"no job of {environment} has a schedule that is not paused")
    return int(failed)


def _is_scheduled(job: Document) -> bool:
    schedule = job["settings"].get("schedule") or {}
    return bool(schedule.get("pause_status") == "UNPAUSED")


def _known_environment(arguments: argparse.Namespace, argument: str, environment: str) -> str:
    """Return the environment, or end with a usage error when the project has none of that name.

    argparse's own `choices` can't be used: the names are known only when --project has been read.
    """
    if environment not in arguments.environments:
        choices = ", ".join(map(repr, arguments.environments))
        arguments.parser.error(f"argument {argument}: invalid choice: {environment!r} (choose from {choices})")
    return environment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local_workspace",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--root", type=Path, default=Path(".workspace"), metavar="DIR",
        help="folder that keeps the workspaces; default: .workspace",
    )  # fmt: skip
    parser.add_argument(
        "--project", type=Path, default=Path(), metavar="DIR",
        help="folder of the project whose .dbx/project.json names the environments; default: this folder",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, help=f"port to listen on; default: {_PORT_OF_SERVE} for serve, a free one otherwise"
    )
    parser.add_argument(
        "--dbfs-root", action="store_true", help="workspaces that have a DBFS root, as older ones do; new ones don't"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serving = commands.add_parser("serve", help="Keep the server up and print what to export.")
    serving.add_argument("--env", metavar="ENV", help="environment to print the exports for; default: the first")
    serving.set_defaults(action=serve, parser=serving)
    executing = commands.add_parser("exec", help="Start the server, run a command against it and stop it.")
    executing.add_argument(
        "--env", metavar="ENV", help="default: what the command's --environment says, else the first environment"
    )
    executing.add_argument("command", nargs=argparse.REMAINDER)
    executing.set_defaults(action=execute, parser=executing)
    putting = commands.add_parser("put", help="Copy a file to a volume.")
    putting.add_argument("file", type=Path)
    putting.add_argument("destination", metavar="ENV:/PATH")
    putting.set_defaults(action=put, parser=putting)
    firing = commands.add_parser("fire", help="Run every scheduled job of an environment now.")
    firing.add_argument("environment", metavar="ENV")
    firing.set_defaults(action=fire, parser=firing)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.port is None:
        # A command's workspace takes a free port, so that it never gets in the way of another.
        arguments.port = _PORT_OF_SERVE if arguments.action is serve else 0
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("local_workspace").setLevel(logging.INFO)
    try:
        arguments.environments = environments_of(arguments.project)
        return int(arguments.action(arguments))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
