"""Read paths of Databricks' files, which dbx and people spell in several ways."""

from __future__ import annotations

import re
from pathlib import Path

_OF_A_VOLUME = re.compile(r"^(?:dbfs:(?://)?|/dbfs)(?=/Volumes/)")
_OF_DBFS = re.compile(r"^dbfs:(?://)?(?=/)")


def python_path(path: str) -> Path:
    """Return the path by which Python opens a file: `/Volumes/…` for one in a volume, `/dbfs/…` for one on DBFS root.

    dbx makes `/dbfs/Volumes/…` of `file:fuse://…`, which is not there on every cluster.
    """
    if in_volume := _volume_path(path):
        return Path(in_volume)
    return Path(_OF_DBFS.sub("/dbfs", path))


def databricks_path(path: str) -> str:
    """Return the path as Databricks spells it: `/Volumes/…` or `dbfs:/…`; any other path as it is."""
    if in_volume := _volume_path(path):
        return in_volume
    return f"dbfs:{path.removeprefix('/dbfs')}" if path.startswith("/dbfs/") else path


def _volume_path(path: str) -> str | None:
    found = _OF_A_VOLUME.sub("", path)
    return found if found.startswith("/Volumes/") else None
