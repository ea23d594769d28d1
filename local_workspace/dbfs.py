"""Keep the files of DBFS: one folder for each workspace."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from local_workspace.errors import ApiError, invalid, not_found


def is_in_root(path: str) -> bool:
    """Return whether a path such as `/FileStore/x` or `dbfs:/FileStore/x` is on DBFS root, not in a volume."""
    return not f"{path.removeprefix('dbfs:')}/".startswith("/Volumes/")


def write(target: Path, content: bytes) -> None:
    """Write a local file, and make the folders above it; it is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part:
        part.write(content)
    Path(part.name).chmod(0o644)
    Path(part.name).replace(target)


class Dbfs:
    """The files of one workspace, by paths such as `/FileStore/x` or `dbfs:/FileStore/x`, which never lead outside."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)

    def local(self, path: str) -> Path:
        """Return the local file that a DBFS path stands for.

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
        """Return what `dbfs/get-status` answers: path, whether it is a directory, size in bytes, time in milliseconds.

        Raises: ApiError 404 when nothing is there.
        """
        return self._describe(self._existing(path))

    def listing(self, path: str) -> list[dict[str, object]]:
        """Return what `dbfs/list` answers: the status of each file of a directory, or of the file itself.

        Raises: ApiError 404 when nothing is there.
        """
        target = self._existing(path)
        return [self._describe(entry) for entry in (sorted(target.iterdir()) if target.is_dir() else [target])]

    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises: ApiError 404 when nothing is there; ApiError 400 for a directory.
        """
        target = self._existing(path)
        if target.is_dir():
            raise invalid(f"Cannot read a directory: {path}")
        return target.read_bytes()

    def write(self, path: str, content: bytes, *, overwrite: bool = True) -> None:
        """Write a file, atomically.

        Raises: ApiError 400 when it exists and may not be overwritten.
        """
        target = self.local(path)
        if target.exists() and not overwrite:
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"A file or directory already exists at {path}")
        write(target, content)

    def delete(self, path: str, *, recursive: bool) -> None:
        """Remove a file, or a directory; one that is not empty needs `recursive`.

        Raises: ApiError 400 when a directory is not empty.
        """
        target = self.local(path)
        if target.is_dir():
            if not recursive and any(target.iterdir()):
                raise ApiError(400, "IO_ERROR", f"The directory is not empty: {path}")
            shutil.rmtree(target)
        elif target.exists():
            target.unlink()

    def move(self, source: str, destination: str) -> None:
        """Rename a file or directory.

        Raises: ApiError 404 when the source is missing; ApiError 400 when the destination exists.
        """
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


@dataclass
class Upload:
    """A file that a client sends block by block."""

    path: str
    overwrite: bool
    content: bytearray = field(default_factory=bytearray)


class Uploads:
    """The uploads under way, by the handle that `dbfs/create` answered."""

    def __init__(self) -> None:
        self._uploads: dict[int, Upload] = {}

    def begin(self, handle: int, path: str, *, overwrite: bool) -> None:
        """Begin an upload."""
        self._uploads[handle] = Upload(path, overwrite)

    def get(self, handle: int) -> Upload:
        """Return an upload.

        Raises: ApiError 404 when there is none with that handle.
        """
        if handle not in self._uploads:
            raise not_found(f"No open handle {handle}")
        return self._uploads[handle]

    def end(self, handle: int) -> None:
        """Forget an upload."""
        del self._uploads[handle]


# Where a cluster mounts DBFS, volumes and workspace files; not the path of an address such as dbfs:/Volumes/…, nor a
# longer path's end. Some clusters have volumes below /dbfs too, others don't: here they are not there.
_MOUNTED = re.compile(r"(?<![\w:./-])/(dbfs(?!/Volumes/)|Volumes|Workspace)(?=/)")


def without_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Replace each path below `/dbfs`, `/Volumes` or `/Workspace` in a text with that of the local file."""
    return _MOUNTED.sub(lambda found: mounts[found[0]], text)
