"""DBFS: files below one root for each workspace."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

from local_workspace.errors import ApiError, invalid, not_found


class Dbfs:
    """Paths such as `/FileStore/x` or `dbfs:/FileStore/x`; none leads outside the root."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)

    def local(self, path: str) -> Path:
        """The file a DBFS path stands for.

        Raises: ApiError 400 for a path that leads outside the root.
        """
        text = path.removeprefix("dbfs:")
        if not text.startswith("/"):
            raise invalid(f"Path must be absolute: {path}")
        target = (self.root / text.lstrip("/")).resolve()
        if target != self.root and self.root not in target.parents:
            raise invalid(f"Path must be within the root: {path}")
        return target

    def status(self, path: str) -> dict[str, object]:
        """What get-status answers."""
        return self._describe(self._existing(path))

    def listing(self, path: str) -> list[dict[str, object]]:
        """What list answers."""
        target = self._existing(path)
        return [self._describe(one) for one in (sorted(target.iterdir()) if target.is_dir() else [target])]

    def read(self, path: str) -> bytes:
        """A file's content."""
        target = self._existing(path)
        if target.is_dir():
            raise invalid(f"Cannot read a directory: {path}")
        return target.read_bytes()

    def write(self, path: str, content: bytes, *, overwrite: bool = True) -> None:
        """Write a file, atomically."""
        target = self.local(path)
        if target.exists() and not overwrite:
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"A file or directory already exists at {path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
            part.write(content)
        Path(part.name).chmod(0o644)
        Path(part.name).replace(target)

    def delete(self, path: str, *, recursive: bool) -> None:
        """Remove a file, or a directory with all that is in it."""
        target = self.local(path)
        if target.is_dir():
            if not recursive and any(target.iterdir()):
                raise ApiError(400, "IO_ERROR", f"The directory is not empty: {path}")
            shutil.rmtree(target)
        elif target.exists():
            target.unlink()

    def move(self, source: str, destination: str) -> None:
        """Rename."""
        target = self.local(destination)
        if target.exists():
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"A file or directory already exists at {destination}")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._existing(source).rename(target)

    def _existing(self, path: str) -> Path:
        target = self.local(path)
        if not target.exists():
            raise not_found(f"No file or directory exists on path {path}.")
        return target

    def _describe(self, target: Path) -> dict[str, object]:
        found = target.stat()
        path = PurePosixPath("/", *target.relative_to(self.root).parts)
        return {
            "path": str(path),
            "is_dir": target.is_dir(),
            "file_size": 0 if target.is_dir() else found.st_size,
            "modification_time": int(found.st_mtime * 1000),
        }


def fuse(text: str, root: Path) -> str:
    """Text in which `/dbfs/…` leads to the root, as the mount does on a cluster."""
    return text.replace("/dbfs/", f"{root}{os.sep}") if text.startswith("/dbfs/") else text
