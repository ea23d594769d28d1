"""Write what the tasks of a job's newest run printed (metrics, decision, champion) to the summary of the workflow.

    python -m devtools.job_summary staging-integration-test

The summary is the file $GITHUB_STEP_SUMMARY, or the terminal when that is not set. The workspace comes from
DATABRICKS_HOST and DATABRICKS_TOKEN.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

# The lines of a task's summary are indented by two or more, its log lines are not.
_SUMMARY_LINE = re.compile(r"^  \S|^ {4,}\S")
_MARK = {"SUCCESS": "✅", "FAILED": "❌"}


def summary_of(logs: str) -> list[tuple[str, str]]:
    """Return label and value of each line of the summary at the end of a task's output."""
    lines = [line.strip() for line in logs.splitlines() if _SUMMARY_LINE.match(line)]
    pairs = [re.split(r"\s{2,}", line, maxsplit=1) for line in lines]
    return [(pair[0], pair[1]) if len(pair) == 2 else ("", pair[0]) for pair in pairs]


def _cell(text: str) -> str:
    # What a task printed must not act as markup on the page of the workflow.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")


def markdown(job: str, tasks: list[tuple[str, str, str, str]]) -> str:
    """Return a section of Markdown for each task, given as key, result, output and error."""
    lines = [f"## {job}", ""]
    for key, result, logs, error in tasks:
        lines += [f"### {_MARK.get(result, '➖')} {key}", ""]
        pairs = summary_of(logs)
        if pairs:
            lines += ["| | |", "|---|---|", *(f"| {_cell(label)} | {_cell(value)} |" for label, value in pairs), ""]
        if error:
            lines += [f"> {_cell(error.splitlines()[-1])}", ""]
    return "\n".join(lines)


def newest_run(job: str) -> list[tuple[str, str, str, str]]:
    """Return key, result, output and error of each task of the job's newest run, in the order they started.

    Raises: SystemExit when there is no such job, or it never ran.
    """
    from databricks.sdk import WorkspaceClient

    client = WorkspaceClient()
    found = next(iter(client.jobs.list(name=job)), None)
    if found is None:
        sys.exit(f"error: the workspace has no job {job}; deploy it first")
    run = next(iter(client.jobs.list_runs(job_id=found.job_id, limit=1)), None)
    if run is None:
        sys.exit(f"error: {job} never ran")
    return outputs_of(client, run.run_id)


def outputs_of(client: WorkspaceClient, run_id: int | None) -> list[tuple[str, str, str, str]]:
    """Return key, result, output and error of each task of a job's run, in the order they started."""
    tasks = client.jobs.get_run(run_id).tasks or []
    described = []
    for task in sorted(tasks, key=lambda task: task.start_time or sys.maxsize):
        output = client.jobs.get_run_output(task.run_id)
        result = task.state.result_state.value if task.state and task.state.result_state else "NOT RUN"
        described.append((task.task_key, result, output.logs or "", output.error or ""))
    return described


def main() -> None:
    """Write the summary of the job that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else 2)
    text = markdown(sys.argv[1], newest_run(sys.argv[1]))
    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if target:
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
