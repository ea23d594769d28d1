"""Start and stop the HTTP server."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waitress.server import create_server

from local_workspace.app import create_app
from local_workspace.errors import UserError
from local_workspace.layout import Layout
from local_workspace.mlflow_server import mlflow_app
from local_workspace.workspaces import Workspaces, open_workspaces

_THREADS = 16


@contextmanager
def running(root: Path, environments: tuple[str, ...], port: int, *, dbfs_root: bool = False) -> Iterator[Workspaces]:
    """Serve the workspaces of `environments`, kept below `root`, until the block ends. Port 0 takes a free one.

    `dbfs_root` says whether they have a DBFS root.

    Raises: UserError when another server uses `root` or the port is taken.
    """
    root = root.resolve()
    token = _token(root)
    with _exclusive_use(root), _listener(port) as listener:
        layout = Layout(root)
        mlflow = mlflow_app({name: layout.home(name) for name in environments})
        workspaces = open_workspaces(root, environments, listener.getsockname()[1], token, dbfs_root=dbfs_root)
        server = create_server(create_app(workspaces, mlflow), sockets=[listener], threads=_THREADS)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield workspaces
        finally:
            workspaces.stop()
            server.close()


@contextmanager
def _exclusive_use(root: Path) -> Iterator[None]:
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another local_workspace is using {root}; stop it, or choose another --root") from None
        yield


@contextmanager
def _listener(port: int) -> Iterator[socket.socket]:
    """Listen on this machine only: whoever holds the token can run code here."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            raise UserError(f"port {port} is taken; choose another --port") from None
        yield listener


def _token(root: Path) -> str:
    """Return the owner's token; the first time, write one that only the owner of the file can read."""
    path = root / "token"
    root.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("dapi" + secrets.token_hex(16))
    return path.read_text(encoding="utf-8").strip()
