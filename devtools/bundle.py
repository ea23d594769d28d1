"""Turn deployment.yml into a Databricks Asset Bundle, the successor of dbx, which Databricks no longer develops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from booking_mlops.errors import ConfigError

Tree = dict[str, Any]

NAME = "booking_mlops"
WHEEL = "dist/*.whl"
# The references that dbx resolves by name when it deploys, and the bundle's name of each lookup.
_LOOKUPS = {
    "service-principal": "service_principal",
    "cluster": "cluster",
    "instance-pool": "instance_pool",
    "cluster-policy": "cluster_policy",
}
_REFERENCE = re.compile(rf"^({'|'.join(_LOOKUPS)})://(.+)$")
_FILE = re.compile(r"^file:(?:fuse:)?//(.+)$")
# Keys that only dbx knows, or whose value is the only one a bundle has.
_DBX_KEYS = ("workflow_type", "deployment_config", "format")
_PRINCIPALS = ("user_name", "group_name", "service_principal_name")


def bundle_files(deployment: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Tree]:
    """Return the content of the bundle's files by path: `databricks.yml`, and a file in `resources` per environment.

    `deployment` is the rendered deployment.yml, `project` is .dbx/project.json. An environment becomes a target, a
    workflow becomes a job. Names that dbx looks up become lookup variables, `file:fuse://` becomes the path of the
    bundle's copy of the file, and the wheel, which dbx adds by itself, becomes a library.

    Raises: ConfigError for a reference that a bundle cannot express.
    """
    variables: Tree = {}
    targets: Tree = {}
    files: dict[str, Tree] = {}
    for number, (environment, content) in enumerate(deployment["environments"].items()):
        profile = project.get("environments", {}).get(environment, {}).get("profile")
        targets[environment] = {
            **({"default": True} if number == 0 else {}),
            **({"workspace": {"profile": profile}} if profile else {}),
        }
        jobs = {_key(workflow["name"]): _job(workflow, variables) for workflow in content["workflows"]}
        files[f"resources/{environment}.yml"] = {"targets": {environment: {"resources": {"jobs": jobs}}}}
    root: Tree = {
        "bundle": {"name": NAME},
        "include": ["resources/*.yml"],
        "artifacts": {"wheel": {"type": "whl", "path": ".", "build": "python -m pip wheel --no-deps -w dist ."}},
        **({"variables": variables} if variables else {}),
        "targets": targets,
    }
    return {"databricks.yml": root, **files}


def _key(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _job(workflow: Mapping[str, Any], variables: Tree) -> Tree:
    job: Tree = {key: value for key, value in workflow.items() if key not in (*_DBX_KEYS, "access_control_list")}
    if "access_control_list" in workflow:
        job["permissions"] = [_permission(entry) for entry in workflow["access_control_list"]]
    job["tasks"] = [_task(task) for task in workflow["tasks"]]
    resolved: Tree = _resolved(job, variables, str(workflow["name"]))
    return resolved


def _permission(entry: Mapping[str, Any]) -> Tree:
    return {"level": entry["permission_level"], **{key: entry[key] for key in _PRINCIPALS if key in entry}}


def _task(task: Mapping[str, Any]) -> Tree:
    found = {key: value for key, value in task.items() if key not in _DBX_KEYS}
    if not (task.get("deployment_config") or {}).get("no_package"):
        # The path is relative to the file it is written in, which is in the folder resources.
        found["libraries"] = [*(task.get("libraries") or []), {"whl": f"../{WHEEL}"}]
    return found


def _resolved(value: Any, variables: Tree, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(inner, variables, where) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, variables, where) for inner in value]
    if not isinstance(value, str):
        return value
    reference, file = _REFERENCE.match(value), _FILE.match(value)
    if reference:
        kind, name = _LOOKUPS[reference[1]], reference[2]
        variable = _key(f"{kind}_{name}")
        variables[variable] = {"description": f"{kind.replace('_', ' ')} {name}", "lookup": {kind: name}}
        return f"${{var.{variable}}}"
    if file:
        return f"${{workspace.file_path}}/{PurePosixPath(file[1])}"
    if re.match(r"^[a-z-]+://", value) and not value.startswith(("dbfs:", "s3:", "abfss:", "gs:")):
        raise ConfigError(f"{where}: a bundle has no word for {value}")
    return value


def jobs_of(files: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Tree]]:
    """Yield target, key and job of every job in the bundle's files."""
    for content in files.values():
        for target, inner in content.get("targets", {}).items():
            for key, job in inner.get("resources", {}).get("jobs", {}).items():
                yield target, key, job
