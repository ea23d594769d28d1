"""`python -m local_workspace`: serve the workspaces, or run one command against them."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_workspace.app import (
    DOMAIN,
    ENVIRONMENTS,
    Workspaces,
    create_app,
    mlflow_app,
    open_workspaces,
    proxy_variables,
)
from local_workspace.runs import JOB

_DESCRIPTION = """\
A Databricks workspace on this machine, for the real dbx. Its control plane is a stand-in; what it runs is real:
tasks are processes from the deployed wheel, on real Spark, Delta and MLflow. It listens on 127.0.0.1 only; whoever
holds its token can run code here, as on Databricks.
"""

_EXAMPLES = """\
examples:
  python -m local_workspace exec -- dbx deploy --environment prod
  python -m local_workspace put path/to/Booking.csv prod:/FileStore/booking_mlops/prod/Booking.csv
  python -m local_workspace exec -- dbx launch prod-booking-pipeline --environment prod --trace
  python -m local_workspace serve        keeps it up and prints what to export
"""


def client_environment(port: int, token: str, environment: str) -> dict[str, str]:
    """Variables that make dbx, the databricks-cli, the SDK and MLflow talk to a workspace."""
    return {
        "DATABRICKS_HOST": f"http://{environment}.{DOMAIN}",
        "DATABRICKS_TOKEN": token,
        **proxy_variables(port),
    }


def _token(root: Path) -> str:
    """The workspace's token, made once and readable by its owner only."""
    path = root / "token"
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("dapi" + secrets.token_hex(16))
    return path.read_text(encoding="utf-8").strip()


@contextmanager
def running(root: Path, port: int) -> Iterator[tuple[Workspaces, int]]:
    """The server, in a thread, until the block ends. Port 0 takes a free one."""
    import fcntl

    from waitress.server import create_server

    root = root.resolve()
    token = _token(root)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"error: another local_workspace is using {root}; stop it, or choose another --root")
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                sys.exit(f"error: port {port} is taken; choose another --port")
            port = listener.getsockname()[1]
            mlflow = mlflow_app(root)
            workspaces = open_workspaces(root, port, token)
            application = create_app(workspaces, mlflow)
            server = create_server(application, sockets=[listener], threads=16)
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            try:
                yield workspaces, port
            finally:
                workspaces.stop()
                server.close()


def serve(arguments: argparse.Namespace) -> int:
    """Keep the workspaces up until interrupted."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with running(arguments.root, arguments.port) as (workspaces, port):
        print(f"local workspace at {workspaces.url}, kept in {arguments.root}")
        print(f"open it: {workspaces.url}/login?token={workspaces.token}\n")
        print(f"In another terminal, for {arguments.env}:\n")
        for name, value in client_environment(port, workspaces.token, arguments.env).items():
            print(f"export {name}={value}")
        print(f"\nOther environments: DATABRICKS_HOST=http://ENV.{DOMAIN} with ENV one of {', '.join(ENVIRONMENTS)}")
        sys.stdout.flush()
        stop.wait()
    return 0


def execute(arguments: argparse.Namespace) -> int:
    """Run one command against the workspaces and stop them after it; its exit code is ours."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        sys.exit("error: nothing to run; python -m local_workspace exec -- dbx deploy --environment dev")
    environment = arguments.env or _environment_of(command)
    with running(arguments.root, arguments.port) as (workspaces, port):
        own_programs = str(Path(sys.executable).parent)
        env = {
            **os.environ,
            "PATH": f"{own_programs}{os.pathsep}{os.environ.get('PATH', '')}",
            **client_environment(port, workspaces.token, environment),
        }
        try:
            child = subprocess.Popen(command, env=env)
        except FileNotFoundError:
            sys.exit(f"error: {command[0]}: no such program")
        # An interruption is the command's to handle: dbx cancels its run on it.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return child.wait()
        finally:
            signal.signal(signal.SIGINT, previous)


def _environment_of(command: Sequence[str]) -> str:
    """The environment a dbx command names; dev when it names none."""
    for index, word in enumerate(command):
        name, _, value = word.partition("=")
        if name in ("--environment", "-e"):
            value = value or (command[index + 1] if index + 1 < len(command) else "")
            if value in ENVIRONMENTS:
                return value
    return ENVIRONMENTS[0]


def put(arguments: argparse.Namespace) -> int:
    """Copy a file onto a workspace's DBFS."""
    environment, _, path = arguments.destination.partition(":")
    if environment not in ENVIRONMENTS or not path.startswith("/"):
        sys.exit(f"error: {arguments.destination}: expected ENV:/path with ENV one of {', '.join(ENVIRONMENTS)}")
    if not arguments.file.is_file():
        sys.exit(f"error: {arguments.file}: no such file")
    with running(arguments.root, arguments.port) as (workspaces, _):
        workspaces.runs.dbfs(environment).write(path, arguments.file.read_bytes())
    print(f"{arguments.file} is dbfs:{path} in {environment}")
    return 0


def fire(arguments: argparse.Namespace) -> int:
    """Run every job of an environment whose schedule is not paused, one after the other, now."""
    failed = False
    with running(arguments.root, arguments.port) as (workspaces, _):
        jobs = [
            job
            for job in workspaces.store.all(arguments.environment, JOB)
            if (job["settings"].get("schedule") or {}).get("pause_status", "PAUSED") == "UNPAUSED"
        ]
        for job in jobs:
            run_id = workspaces.runs.submit(
                arguments.environment, job["settings"], job_id=job["job_id"], user="schedule", trigger="PERIODIC"
            )
            result = workspaces.runs.wait(arguments.environment, run_id)["state"].get("result_state")
            print(f"{job['settings']['name']}: run {run_id}: {result}")
            failed = failed or result != "SUCCESS"
        if not jobs:
            print(f"no job of {arguments.environment} has a schedule that is not paused")
    return int(failed)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m local_workspace",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path(".workspace"), metavar="DIR", help="default: .workspace")
    parser.add_argument("--port", type=int, help="default: a free one; serve takes 8766")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    serving = commands.add_parser("serve", help="Keep it up, and print what to export.")
    serving.add_argument("--env", choices=ENVIRONMENTS, default=ENVIRONMENTS[0])
    serving.set_defaults(action=serve)
    executing = commands.add_parser("exec", help="Start it, run a command against it, stop it.")
    executing.add_argument(
        "--env", choices=ENVIRONMENTS, help="default: what the command's --environment says, else dev"
    )
    executing.add_argument("command", nargs=argparse.REMAINDER)
    executing.set_defaults(action=execute)
    putting = commands.add_parser("put", help="Copy a file onto DBFS.")
    putting.add_argument("file", type=Path)
    putting.add_argument("destination", metavar="ENV:/PATH")
    putting.set_defaults(action=put)
    firing = commands.add_parser("fire", help="Run every scheduled job of an environment now.")
    firing.add_argument("environment", choices=ENVIRONMENTS)
    firing.set_defaults(action=fire)
    arguments = parser.parse_args(argv)
    if arguments.port is None:
        # One that stays the same can be bookmarked; one command's workspace must not get in another's way.
        arguments.port = 8766 if arguments.action is serve else 0
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("local_workspace").setLevel(logging.INFO)
    return int(arguments.action(arguments))


if __name__ == "__main__":
    sys.exit(main())
