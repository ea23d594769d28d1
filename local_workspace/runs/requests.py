"""Read what a request to start a run says: who asks, which tasks, and the parameters that replace the job's."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from local_workspace.errors import invalid
from local_workspace.store import Document

_LONGEST_TOKEN = 64
# What run-now takes for other kinds of tasks than Python wheels.
_OF_OTHER_KINDS = (
    *("jar_params", "notebook_params", "spark_submit_params", "sql_params", "dbt_commands", "pipeline_params"),
)
_REFERENCE = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")


@dataclass(frozen=True)
class RunRequest:
    """What a run is started with; `only` empty means every task, and `job_id` None a run that belongs to no job."""

    creator: str
    run_as: str
    job_id: int | None = None
    trigger: str = "ONE_TIME"
    only: tuple[str, ...] = ()
    overriding: Document = field(default_factory=dict)
    job_parameters: dict[str, str] = field(default_factory=dict)
    idempotency_token: str = ""


def overriding_parameters(fields: Document) -> Document:
    """Return the task parameters of a request to start or repair a run.

    Raises: ApiError 400 for parameters that a Python wheel task does not take.
    """
    for name in _OF_OTHER_KINDS:
        if fields.get(name):
            raise invalid(f"The job has no task that takes {name}: a Python wheel task takes python_params or "
                          "python_named_params.")  # fmt: skip
    found = {name: fields[name] for name in ("python_params", "python_named_params") if fields.get(name)}
    if len(found) == 2:
        raise invalid("Only one of python_params and python_named_params may be given.")
    if not isinstance(found.get("python_params", []), list):
        raise invalid("python_params must be a list of strings.")
    if not isinstance(found.get("python_named_params", {}), dict):
        raise invalid("python_named_params must be an object.")
    return found


def job_parameters(fields: Document) -> dict[str, str]:
    """Return the job parameters of a request, by name.

    Raises: ApiError 400 when they are no object.
    """
    given = fields.get("job_parameters") or {}
    if not isinstance(given, dict):
        raise invalid("job_parameters must be an object.")
    return {str(name): str(value) for name, value in given.items()}


def chosen_tasks(fields: Document, keys: Collection[str], name: str = "only") -> tuple[str, ...]:
    """Return the task keys that a request names in a list; none when it has no such list.

    Raises: ApiError 400 for one that the job does not have.
    """
    given = fields.get(name) or []
    if not isinstance(given, list):
        raise invalid(f"{name} must be a list of task keys.")
    for key in given:
        if key not in keys:
            raise invalid(f"Task {key} in {name} does not exist in the job.")
    return tuple(given)


def idempotency_token(fields: Document) -> str:
    """Return the token by which a request that is sent twice starts one run; empty when it has none.

    Raises: ApiError 400 for one of more than 64 characters.
    """
    token = str(fields.get("idempotency_token") or "")
    if len(token) > _LONGEST_TOKEN:
        raise invalid(f"idempotency_token must have at most {_LONGEST_TOKEN} characters, got {len(token)}.")
    return token


def described_job_parameters(settings: Document, given: dict[str, str]) -> list[Document]:
    """Return the parameters of a run as the Jobs API describes them: name, default and value."""
    defaults = {one["name"]: str(one.get("default", "")) for one in settings.get("parameters") or []}
    names = [*defaults, *(name for name in given if name not in defaults)]
    return [
        {"name": name, "default": defaults.get(name, ""), "value": given.get(name, defaults.get(name, ""))}
        for name in names
    ]


def arguments(run: Document, task: Document) -> list[str]:
    """Return a wheel task's command line: the request's parameters or the task's own, with references resolved.

    A task with named parameters also gets the job's parameters, as `--name=value`.
    """
    wheel_task, overriding = task["python_wheel_task"], run["overriding_parameters"]
    values = {one["name"]: one["value"] for one in run.get("job_parameters") or []}
    positional: list[str] = list(wheel_task.get("parameters") or [])
    named: dict[str, str] = dict(wheel_task.get("named_parameters") or {})
    if named:
        named |= values
    if overriding.get("python_params"):
        positional, named = list(overriding["python_params"]), {}
    elif overriding.get("python_named_params"):
        positional, named = [], {**named, **overriding["python_named_params"]}
    references = {
        **{f"job.parameters.{name}": value for name, value in values.items()},
        "job.id": run["job_id"],
        "job.name": run["run_name"],
        "job.run_id": run["run_id"],
        "task.name": task["task_key"],
        "task.run_id": task["run_id"],
    }

    def resolve(text: object) -> str:
        return _REFERENCE.sub(lambda found: str(references.get(found[1], found[0])), str(text))

    return [*map(resolve, positional), *(f"--{name}={resolve(value)}" for name, value in named.items())]
