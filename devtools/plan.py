"""Compare what dbx would deploy with the jobs that a workspace has, field by field. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Tree = Mapping[str, Any]

# What names an entry of a list, in the order in which it is looked for.
_NAMES = ("task_key", "job_cluster_key", "service_principal_name", "group_name", "user_name")
# What a job has when nothing is said.
_DEFAULTS: Mapping[str, Any] = {
    "format": "MULTI_TASK", "run_if": "ALL_SUCCESS", "max_concurrent_runs": 1, "timeout_seconds": 0, "max_retries": 0,
    "min_retry_interval_millis": 0, "retry_on_timeout": False, "pause_status": "UNPAUSED",
    "no_alert_for_skipped_runs": False,
}  # fmt: skip
# What dbx keeps for itself.
_OF_DBX = ("workflow_type", "job_id", "deployment_config")
# Settings of a cluster that Databricks fills in by itself.
_FILLED_IN = re.compile(r"new_cluster\.(aws_attributes|azure_attributes|gcp_attributes|enable_elastic_disk|"
                        r"disk_spec|runtime_engine|driver_node_type_id)\b")  # fmt: skip
# dbx uploads a file to a folder of the deployment; what comes after it is the file's path in the project.
_UPLOADED = re.compile(r"^(?:dbfs:|/dbfs)?/.*/artifacts/(?=dist/|conf/)")
_REFERENCE = re.compile(r"^file:(?:fuse:)?//")


@dataclass(frozen=True)
class Change:
    """A field of a job that a deployment changes: its path, and its value before and after; None for none."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class JobPlan:
    """What a deployment does to a job of the workspace: `create`, `change`, `keep`, or `leave` when it is not named."""

    name: str
    action: str
    changes: tuple[Change, ...] = ()


def plan(wanted: Iterable[Tree], there: Iterable[Tree], wheel: str, environment: str) -> list[JobPlan]:
    """Return what a deployment would do, in the order of the deployment file; jobs that it leaves come last.

    `wanted` are the workflows of the environment, with its references resolved; `there` are the settings of the
    workspace's jobs, with their `access_control_list`; `wheel` is the name of the wheel's file.
    """
    known = {str(job["name"]): job for job in there}
    plans = []
    for workflow in wanted:
        name = str(workflow["name"])
        if name not in known:
            plans.append(JobPlan(name, "create"))
            continue
        job = dict(known[name])
        if "access_control_list" not in workflow:
            # dbx leaves the permissions then.
            job.pop("access_control_list", None)
        changes = tuple(_changes(job, _with_wheel(workflow, wheel)))
        plans.append(JobPlan(name, "change" if changes else "keep", changes))
    named = {one.name for one in plans}
    left = sorted(name for name in known if name.startswith(f"{environment}-") and name not in named)
    return [*plans, *(JobPlan(name, "leave") for name in left)]


def described(plans: Sequence[JobPlan]) -> list[str]:
    """Return the plan as lines of text."""
    signs = {"create": "+", "change": "~", "keep": "=", "leave": "?"}
    words = {"create": "would be created", "change": "would change", "keep": "stays as it is",
             "leave": "is not in the deployment file; dbx leaves it"}  # fmt: skip
    lines = []
    for one in plans:
        lines.append(f"{signs[one.action]} {one.name}: {words[one.action]}")
        lines += [f"    {change.field}: {_shown(change.before)} → {_shown(change.after)}" for change in one.changes]
    return lines


def _with_wheel(workflow: Tree, wheel: str) -> Tree:
    """Return a workflow with the library that dbx adds to each task that does not refuse it."""
    tasks = []
    for task in workflow.get("tasks") or []:
        libraries = list(task.get("libraries") or [])
        if not (task.get("deployment_config") or {}).get("no_package"):
            libraries.append({"whl": f"file://dist/{wheel}"})
        tasks.append({**task, "libraries": libraries})
    return {**workflow, "tasks": tasks}


def _changes(before: Tree, after: Tree) -> Iterator[Change]:
    old, new = dict(_fields(before)), dict(_fields(after))
    for field in [*new, *(field for field in old if field not in new)]:
        if old.get(field) != new.get(field) and not (field not in new and _FILLED_IN.search(field)):
            yield Change(field, old.get(field), new.get(field))


def _fields(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values of a tree by path, without what is empty or the default."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            # dbx sends a name that it has looked up a second time, under the key of what it is in.
            twice = path.rpartition(".")[2] == key and isinstance(value, str)
            if key not in _OF_DBX and not twice and _DEFAULTS.get(key) != value:
                yield from _fields(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for position, value in enumerate(tree):
            keys = [key for key in _NAMES if key in value] if isinstance(value, Mapping) else []
            yield from _fields(value, f"{path}[{value[keys[0]] if keys else position}]")
    elif tree is not None and tree != "":
        yield path, _REFERENCE.sub("", _UPLOADED.sub("", tree)) if isinstance(tree, str) else tree


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
