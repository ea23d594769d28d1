"""Read the names of the environments from the project's `.dbx/project.json`, the file dbx itself reads."""

from __future__ import annotations

import json
import re
from pathlib import Path

from local_workspace.errors import UserError

_FILE = Path(".dbx") / "project.json"
# A name is part of a host name, of a page's address and of a folder's path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def environments_of(project: Path) -> tuple[str, ...]:
    """Return the names of the project's environments, in the order of the file.

    Raises: UserError when the file is missing or not JSON, when it has no environments, or when one of their names
    can't be part of a host name.
    """
    path = project / _FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(
            f"{path}: no such file; start this in a dbx project, or name its folder with --project"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    environments = content.get("environments") if isinstance(content, dict) else None
    if not isinstance(environments, dict) or not environments:
        raise UserError(f"{path} has no environments; add one with: dbx configure --environment NAME")
    known: set[str] = set()
    for name in environments:
        if not _NAME.fullmatch(name):
            raise UserError(f"{path}: {name!r} can't be part of a host name; use letters, digits, '-' and '_' only")
        if name.lower() in known:
            raise UserError(f"{path}: two environments are named {name}, and host names ignore case; rename one")
        known.add(name.lower())
    return tuple(environments)
