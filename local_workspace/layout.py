"""Say where below the server's root folder each kind of file lies."""

from __future__ import annotations

from pathlib import Path

from local_workspace.addresses import OWNER
from local_workspace.dbfs import Dbfs


class Layout:
    """The folders below `root`, which hold the workspaces' files, lakes, logs and installed wheels."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wheels = root / "envs"

    def home(self, workspace: str) -> Path:
        """Return the folder of a workspace's files, its lake and its tasks' working folders."""
        return self.root / "workspaces" / workspace

    def lake(self, workspace: str) -> Path:
        """Return the folder of a workspace's tables."""
        return self.home(workspace) / "lake"

    def dbfs(self, workspace: str) -> Dbfs:
        """Return a workspace's DBFS."""
        return Dbfs(self.home(workspace) / "dbfs")

    def workspace_files(self, workspace: str) -> Dbfs:
        """Return a workspace's files and notebooks, with the folders that every workspace has."""
        files = Dbfs(self.home(workspace) / "files")
        for folder in ("/Shared", f"/Users/{OWNER}"):
            files.local(folder).mkdir(parents=True, exist_ok=True)
        return files

    def mounts(self, workspace: str) -> dict[str, str]:
        """Return where the paths of a workspace's files lead that a cluster has mounted."""
        dbfs = self.dbfs(workspace).root
        return {
            "/Volumes": str(dbfs / "Volumes"),
            "/Workspace": str(self.workspace_files(workspace).root),
            "/dbfs": str(dbfs),
        }

    def models(self, workspace: str) -> Dbfs:
        """Return the files of a workspace's model versions, by paths such as `/prod/booking/cancellation/1/MLmodel`."""
        return Dbfs(self.home(workspace) / "models")

    def artifacts(self, workspace: str) -> Dbfs:
        """Return the artifacts of a workspace's runs and logged models, which MLflow's server reads and writes too."""
        return Dbfs(self.home(workspace) / "mlartifacts")

    def log(self, run_id: int) -> Path:
        """Return the file that a task run's output goes to."""
        return self.root / "logs" / f"{run_id}.log"

    def cluster(self, run_id: int, cluster_id: str) -> Path:
        """Return the folder of the JVM that a run's tasks on one cluster share."""
        return self.root / "clusters" / str(run_id) / cluster_id

    def clusters(self, run_id: int | None = None) -> list[Path]:
        """Return the folders of the clusters of one run, or of every run."""
        return list((self.root / "clusters").glob(f"{run_id or '*'}/*"))
