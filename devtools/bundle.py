"""Turn deployment.yml into a Declarative Automation Bundle, the successor of dbx, which Databricks no longer develops.

Until 2026 it was called Databricks Asset Bundle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from booking_mlops.errors import ConfigError

Tree = dict[str, Any]

NAME = "booking_mlops"
# A folder that nothing else writes to, emptied for each build: the CLI takes the wheel whose version it deems highest,
# and the hashes in ours are in no order. `build` would bring files into the wheel that are gone from the package.
WHEELS = "dist/bundle"
WHEEL = f"{WHEELS}/*.whl"
_BUILD = f"rm -rf build {WHEELS} && python3 -m pip wheel --no-deps -w {WHEELS} ."
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


def bundle_files(deployment: Mapping[str, Any]) -> dict[str, Tree]:
    """Return the content of the bundle's files by path: `databricks.yml`, and a file in `resources` per environment.

    `deployment` is the rendered deployment.yml. An environment becomes a target, a workflow becomes a job. Names that
    dbx looks up become variables that only the targets which use them look up; `file:fuse://` becomes the path of the
    bundle's copy of the file, and the wheel, which dbx adds by itself, a library or a dependency. A target whose jobs
    run as a service principal is in production mode, and its files are in that principal's folder: there is one copy
    of them, whoever deploys.

    Raises: ConfigError for a reference that a bundle cannot express.
    """
    known: Tree = {}
    targets: Tree = {}
    files: dict[str, Tree] = {}
    for number, (environment, content) in enumerate(deployment["environments"].items()):
        variables: Tree = {}
        jobs = {_key(workflow["name"]): _job(workflow, variables) for workflow in content["workflows"]}
        targets[environment] = {**({"default": True} if number == 0 else {}), **_mode(jobs.values())}
        looked_up = {"variables": {name: {"lookup": found} for name, found in variables.items()}} if variables else {}
        files[f"resources/{environment}.yml"] = {"targets": {environment: {**looked_up, "resources": {"jobs": jobs}}}}
        for name, found in variables.items():
            ((kind, of),) = found.items()
            known[name] = {"description": f"{kind.replace('_', ' ')} {of}", "default": ""}
    root: Tree = {
        "bundle": {"name": NAME},
        "include": ["resources/*.yml"],
        # The wheel has the rest.
        "sync": {"paths": ["conf"]},
        "artifacts": {"wheel": {"type": "whl", "path": ".", "build": _BUILD, "files": [{"source": WHEEL}]}},
        **({"variables": known} if known else {}),
        "targets": targets,
    }
    return {"databricks.yml": root, **files}


def _mode(jobs: Iterable[Tree]) -> Tree:
    principals = {str((job.get("run_as") or {}).get("service_principal_name") or "") for job in jobs} - {""}
    if len(principals) != 1:
        return {}
    path = f"/Workspace/Users/{principals.pop()}/.bundle/${{bundle.name}}/${{bundle.target}}"
    return {"mode": "production", "workspace": {"root_path": path}}


def _key(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _job(workflow: Mapping[str, Any], variables: Tree) -> Tree:
    job: Tree = {key: value for key, value in workflow.items() if key not in (*_DBX_KEYS, "access_control_list")}
    if "access_control_list" in workflow:
        job["permissions"] = [_permission(entry) for entry in workflow["access_control_list"]]
    job["tasks"] = [_task(task) for task in workflow["tasks"]]
    if "environments" in workflow:
        job["environments"] = [_environment(environment) for environment in workflow["environments"]]
    resolved: Tree = _resolved(job, variables, str(workflow["name"]))
    return resolved


def _permission(entry: Mapping[str, Any]) -> Tree:
    return {"level": entry["permission_level"], **{key: entry[key] for key in _PRINCIPALS if key in entry}}


def _task(task: Mapping[str, Any]) -> Tree:
    found = {key: value for key, value in task.items() if key not in _DBX_KEYS}
    no_package = (task.get("deployment_config") or {}).get("no_package")
    if not no_package and "environment_key" not in task:
        # The path is relative to the file it is written in, which is in the folder resources.
        found["libraries"] = [*(task.get("libraries") or []), {"whl": f"../{WHEEL}"}]
    return found


def _environment(environment: Mapping[str, Any]) -> Tree:
    """Return an environment of serverless compute with the wheel."""
    spec = environment.get("spec") or {}
    return {**environment, "spec": {**spec, "dependencies": [*(spec.get("dependencies") or []), f"../{WHEEL}"]}}


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
        variables[variable] = {kind: name}
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
