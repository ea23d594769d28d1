"""Open everything the server works with: the store, the files, the runs, the contexts and the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from local_workspace.contexts import Contexts
from local_workspace.dbfs import Uploads
from local_workspace.furnishing import furnish
from local_workspace.layout import Layout
from local_workspace.permissions import Permissions
from local_workspace.runs.engine import RunEngine
from local_workspace.runs.records import RunRecords
from local_workspace.runs.task_environment import TaskEnvironment
from local_workspace.runs.task_runner import TaskRunner
from local_workspace.store import Store
from local_workspace.tokens import Tokens


@dataclass(frozen=True)
class Workspaces:
    """The workspaces of one server, one for each environment of the project."""

    environments: tuple[str, ...]
    url: str
    token: str
    dbfs_root: bool
    layout: Layout
    store: Store
    records: RunRecords
    engine: RunEngine
    task_environment: TaskEnvironment
    permissions: Permissions
    uploads: Uploads
    contexts: Contexts
    tokens: Tokens

    def stop(self) -> None:
        """End every context and run, then close the store."""
        self.contexts.stop()
        self.engine.stop()
        self.store.close()


def open_workspaces(root: Path, environments: tuple[str, ...], port: int, token: str, *, dbfs_root: bool) -> Workspaces:
    """Open the workspaces that are kept below `root`; make and furnish those that are new.

    Without `dbfs_root` they refuse what a workspace whose DBFS root is disabled refuses.
    """
    url = f"http://127.0.0.1:{port}"
    layout = Layout(root)
    store = Store(root / "workspace.db")
    furnish(store, environments)
    records = RunRecords(store, layout, url)
    tokens = Tokens(store, token)
    task_environment = TaskEnvironment(layout, url, tokens.for_task)
    return Workspaces(
        environments=environments,
        url=url,
        token=token,
        dbfs_root=dbfs_root,
        layout=layout,
        store=store,
        records=records,
        engine=RunEngine(
            store, layout, records, TaskRunner(store, layout, records, task_environment, dbfs_root=dbfs_root)
        ),
        task_environment=task_environment,
        permissions=Permissions(store),
        uploads=Uploads(),
        contexts=Contexts(),
        tokens=tokens,
    )
