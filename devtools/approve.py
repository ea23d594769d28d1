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

from devtools.job_summary import newest_run

_NOT_RUN, _WRONG_CALL = 1, 2


def parameters(of_job: Sequence[str], version: int, reason: str, environ: Mapping[str, str]) -> list[str]:
    """Return the parameters of the job's task with the version and the reason."""
    actor = environ.get("GITHUB_ACTOR")
    said = f"{reason.strip()} ({actor})" if actor and reason.strip() else reason.strip()
    return [*of_job, "--set", f"version={version}", "--set", f"reason={json.dumps(said)}"]


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
    # What goes wrong is in the task's output.
    with contextlib.suppress(OperationFailed):
        client.jobs.run_now(found.job_id, python_params=given).result()
    ((_, result, logs, error),) = newest_run(name)
    print(logs, end="")
    if error:
        print(error.splitlines()[-1], file=sys.stderr)
    return result == "SUCCESS"


def main() -> None:
    """Approve the version that the command line names."""
    if len(sys.argv) != 4 or not sys.argv[2].isdigit():
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else _WRONG_CALL)
    if not approve(sys.argv[1], int(sys.argv[2]), sys.argv[3]):
        sys.exit(_NOT_RUN)


if __name__ == "__main__":
    main()
