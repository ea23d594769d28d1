"""Keep what the workspaces remember: JSON documents in SQLite, one for each job, run, cluster, permission and so on."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Document = dict[str, Any]

# Kinds of documents.
JOB, RUN, TASK_RUN, CLUSTER = "job", "run", "task_run", "cluster"
USER, GROUP, PRINCIPAL = "user", "group", "principal"
CATALOG, SCHEMA, VOLUME = "catalog", "schema", "volume"


class Store:
    """A database of documents by workspace, kind and id. Each call is one transaction; any thread may call."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.RLock()
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS documents (workspace TEXT, kind TEXT, id TEXT, body TEXT, "
            "PRIMARY KEY (workspace, kind, id))"
        )
        self._connection.execute("CREATE TABLE IF NOT EXISTS numbers (next INTEGER)")
        if self._connection.execute("SELECT count(*) FROM numbers").fetchone()[0] == 0:
            self._connection.execute("INSERT INTO numbers VALUES (1)")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the calls in the block one transaction, which is undone when the block raises."""
        with self._lock:
            outermost = not self._connection.in_transaction
            if outermost:
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if outermost:
                    self._connection.execute("ROLLBACK")
                raise
            if outermost:
                self._connection.execute("COMMIT")

    def next_number(self) -> int:
        """Return a number that was never returned before."""
        with self.transaction():
            (number,) = self._connection.execute("SELECT next FROM numbers").fetchone()
            self._connection.execute("UPDATE numbers SET next = ?", (number + 1,))
        return int(number)

    def put(self, workspace: str, kind: str, identifier: object, body: Document) -> None:
        """Write a document; one with the same id is replaced."""
        with self.transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
                (workspace, kind, str(identifier), json.dumps(body)),
            )

    def get(self, workspace: str, kind: str, identifier: object) -> Document | None:
        """Return a document, or None when there is none with that id."""
        with self._lock:
            row = self._connection.execute(
                "SELECT body FROM documents WHERE workspace = ? AND kind = ? AND id = ?",
                (workspace, kind, str(identifier)),
            ).fetchone()
        return json.loads(row[0]) if row else None

    def change(self, workspace: str, kind: str, identifier: object, **values: Any) -> Document:
        """Set values of a document and return it.

        Raises: KeyError when there is none with that id.
        """
        with self.transaction():
            body = self.get(workspace, kind, identifier)
            if body is None:
                raise KeyError(f"{kind} {identifier}")
            body.update(values)
            self.put(workspace, kind, identifier, body)
        return body

    def delete(self, workspace: str, kind: str, identifier: object) -> None:
        """Remove a document if it is there."""
        with self.transaction():
            self._connection.execute(
                "DELETE FROM documents WHERE workspace = ? AND kind = ? AND id = ?", (workspace, kind, str(identifier))
            )

    def all(self, workspace: str, kind: str) -> list[Document]:
        """Return every document of a kind, oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT body FROM documents WHERE workspace = ? AND kind = ? ORDER BY rowid", (workspace, kind)
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def workspaces(self) -> list[str]:
        """Return the names of the workspaces that have a document."""
        with self._lock:
            rows = self._connection.execute("SELECT DISTINCT workspace FROM documents").fetchall()
        return [row[0] for row in rows]
