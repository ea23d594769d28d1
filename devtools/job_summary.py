"""Write what the newest run of a job printed, task by task, to the workflow's summary: metrics, decision, champion.

    python devtools/job_summary.py staging-integration-test

Goes to $GITHUB_STEP_SUMMARY, or to the terminal when there is none. The workspace comes from DATABRICKS_HOST and
DATABRICKS_TOKEN.
"""

import os
import re
import sys
from pathlib import Path

# A task's summary lines are indented by two; what it logged is not.
_SUMMARY_LINE = re.compile(r"^  \S|^ {4,}\S")
_MARK = {"SUCCESS": "✅", "FAILED": "❌"}


def summary_of(logs: str) -> list[tuple[str, str]]:
    """Label and value of each line of a task's closing summary."""
    lines = [line.strip() for line in logs.splitlines() if _SUMMARY_LINE.match(line)]
    pairs = [re.split(r"\s{2,}", line, maxsplit=1) for line in lines]
    return [(pair[0], pair[1]) if len(pair) == 2 else ("", pair[0]) for pair in pairs]


def _cell(text: str) -> str:
    # Output is data: it must not become markup on the page of the workflow.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "'")


def markdown(job: str, tasks: list[tuple[str, str, str, str]]) -> str:
    """A section for each task: its key, its result, its output and its error."""
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
    """The tasks of the job's newest run, in the order they started.

    Exits when there is no such job, or it never ran.
    """
    from databricks.sdk import WorkspaceClient

    client = WorkspaceClient()
    found = next(iter(client.jobs.list(name=job)), None)
    if found is None:
        sys.exit(f"error: the workspace has no job {job}; deploy it first")
    run = next(iter(client.jobs.list_runs(job_id=found.job_id, limit=1)), None)
    if run is None:
        sys.exit(f"error: {job} never ran")
    tasks = client.jobs.get_run(run.run_id).tasks or []
    described = []
    for task in sorted(tasks, key=lambda task: task.start_time or sys.maxsize):
        output = client.jobs.get_run_output(task.run_id)
        result = task.state.result_state.value if task.state and task.state.result_state else "NOT RUN"
        described.append((task.task_key, result, output.logs or "", output.error or ""))
    return described


def main() -> None:
    """The command line."""
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
