"""Approve a model version that waits: run the job ENV-model-approve of the workspace, and print what it says.

    python -m devtools.approve prod 3 "seen by revenue management"

The tables are the workspace's, so the approval is a job there. The workspace comes from DATABRICKS_HOST and
DATABRICKS_TOKEN. On GitHub the reason also names who started the workflow: the job itself runs as a service principal.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta

from devtools.job_summary import outputs_of

_NOT_RUN, _WRONG_CALL = 1, 2
_PATIENCE = timedelta(hours=2)
"""A cluster may have to start first."""


def parameters(of_job: Sequence[str], version: int, reason: str, environ: Mapping[str, str]) -> list[str]:
    """Return the parameters of the job's task with the version and the reason."""
    actor = environ.get("GITHUB_ACTOR")
    said = f"{reason.strip()} ({actor})" if actor and reason.strip() else reason.strip()
    return [*of_job, "--set", f"version={version}", "--set", f"reason={json.dumps(said, ensure_ascii=False)}"]


def approve(environment: str, version: int, reason: str) -> bool:
    """Run the job and wait for its end; print its output, and return whether it succeeded.

    Raises: SystemExit when there is no such job.
    """
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.errors import OperationFailed

    client, name = WorkspaceClient(), f"{environment}-model-approve"
    found = next(iter(client.jobs.list(name=name, expand_tasks=True)), None)
    if found is None or found.settings is None or not found.settings.tasks:
        sys.exit(f"error: the workspace has no job {name}; deploy it first")
    task = found.settings.tasks[0].python_wheel_task
    given = parameters((task.parameters if task else None) or [], version, reason, os.environ)
    waiting = client.jobs.run_now(found.job_id, python_params=given)
    # What goes wrong is in the task's output.
    with contextlib.suppress(OperationFailed):
        waiting.result(timeout=_PATIENCE)
    ((_, result, logs, error),) = outputs_of(client, waiting.run_id)
    print(logs, end="")
    if error:
        print(error.splitlines()[-1], file=sys.stderr)
    return result == "SUCCESS"


def main() -> None:
    """Approve the version that the command line names."""
    from databricks.sdk.errors import DatabricksError

    if len(sys.argv) != 4:
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else _WRONG_CALL)
    environment, version, reason = sys.argv[1:]
    if not version.isdigit():
        sys.exit(f"error: version: {version!r} is not the number of one")
    try:
        done = approve(environment, int(version), reason)
    except (DatabricksError, ValueError, TimeoutError) as error:
        # Without DATABRICKS_HOST the client raises a ValueError.
        sys.exit(f"error: {str(error).splitlines()[0]}")
    if not done:
        sys.exit(_NOT_RUN)


if __name__ == "__main__":
    main()
