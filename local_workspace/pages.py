"""Pages for people: jobs, runs, and a run with its task graph and logs."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flask import Flask, redirect, render_template, request
from werkzeug.wrappers import Response

from local_workspace.runs import JOB, ended

if TYPE_CHECKING:
    from local_workspace.app import Workspaces


_COLORS = {
    "SUCCESS": ("#d9f2e3", "#14643a"),
    "FAILED": ("#fbe0dd", "#9b2a1d"),
    "TIMEDOUT": ("#fbe0dd", "#9b2a1d"),
    "RUNNING": ("#dceefa", "#0b5c86"),
    "UPSTREAM_FAILED": ("#fbf0d4", "#7a5a0b"),
    "CANCELED": ("#fbf0d4", "#7a5a0b"),
}
_PLAIN = ("#eef1f3", "#5d6b74")


def shown_state(run: dict[str, Any]) -> str:
    """One word for a state: the result when there is one."""
    return str(run["state"].get("result_state") or run["state"]["life_cycle_state"])


def _took(run: dict[str, Any]) -> str:
    if not run.get("start_time"):
        return "–"
    end = run.get("end_time") or datetime.now(timezone.utc).timestamp() * 1000
    seconds = max(0, round((end - run["start_time"]) / 1000))
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


def _started(run: dict[str, Any]) -> str:
    if not run.get("start_time"):
        return "–"
    return datetime.fromtimestamp(run["start_time"] / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def graph(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Where each task's box goes: a column for each step from the start, and a curve for each dependency."""
    needs = {task["task_key"]: [need["task_key"] for need in task.get("depends_on") or []] for task in tasks}
    column: dict[str, int] = {}
    while len(column) < len(needs):
        for key, before in needs.items():
            if key not in column and all(one in column for one in before):
                column[key] = 1 + max((column[one] for one in before), default=-1)
    rows: dict[int, int] = {}
    nodes, place = [], {}
    for task in tasks:
        key = task["task_key"]
        row = rows.get(column[key], 0)
        rows[column[key]] = row + 1
        x, y = 10 + column[key] * 230, 12 + row * 66
        place[key] = (x, y)
        state = shown_state(task)
        fill, stroke = _COLORS.get(state, _PLAIN)
        took = f" · {_took(task)}" if task.get("start_time") else ""
        nodes.append({"key": key, "x": x, "y": y, "state": state, "fill": fill, "stroke": stroke, "took": took})
    edges = []
    for key, before in needs.items():
        for one in before:
            (x1, y1), (x2, y2) = place[one], place[key]
            edges.append(f"M{x1 + 190} {y1 + 24} C{x1 + 210} {y1 + 24} {x2 - 20} {y2 + 24} {x2} {y2 + 24}")
    width, height = 10 + 230 * (max(column.values(), default=0) + 1), 12 + 66 * max(rows.values(), default=1)
    return {"nodes": nodes, "edges": edges, "width": width, "height": height}


def add(flask: Flask, workspaces: Workspaces, set_cookie: Callable[[Response, str], None]) -> None:
    """Add the pages to the application."""
    from local_workspace.app import ENVIRONMENTS

    def page(title: str, template: str, *, refresh: bool = False, **values: Any) -> str:
        return render_template(f"{template}.html", title=title, refresh=refresh, names=ENVIRONMENTS, **values)

    @flask.route("/login", methods=["GET", "POST"])
    def login() -> Any:
        given = request.form.get("token") or request.args.get("token")
        if given and hmac.compare_digest(given.encode(), workspaces.token.encode()):
            answer = redirect("/")
            set_cookie(answer, workspaces.token)
            return answer
        return page("Token", "login", wrong=bool(given)), 403 if given else 200

    @flask.get("/")
    def home() -> Any:
        # MLflow prints links such as /#/experiments/1; what is behind the # never reaches a server.
        target = f"location.hash.startsWith('#/') ? '/mlflow/' + location.hash : '/{ENVIRONMENTS[0]}/jobs'"
        return f"<!doctype html><title>local workspace</title><script>location.replace({target})</script>"

    @flask.get("/<any(dev, staging, prod):workspace>/jobs")
    def jobs(workspace: str) -> str:
        runs = workspaces.runs.of(workspace)
        latest: dict[int, dict[str, Any]] = {}
        for run in reversed(runs):
            latest[run["job_id"]] = run
        listed = [
            {
                "name": job["settings"]["name"],
                "id": job["job_id"],
                "tasks": len(job["settings"].get("tasks") or [1]),
                "schedule": _schedule(job["settings"]),
                "run": latest.get(job["job_id"]),
                "run_state": shown_state(latest[job["job_id"]]) if job["job_id"] in latest else "",
            }
            for job in workspaces.store.all(workspace, JOB)
        ]
        shown = [
            {
                "id": run["run_id"],
                "name": run["run_name"],
                "started": _started(run),
                "took": _took(run),
                "state": shown_state(run),
            }
            for run in runs[:50]
        ]
        return page(f"Jobs of {workspace}", "jobs", workspace=workspace, jobs=listed, runs=shown)

    @flask.get("/<any(dev, staging, prod):workspace>/runs/<int:run_id>")
    def run_page(workspace: str, run_id: int) -> str:
        run = workspaces.runs.get(workspace, run_id)
        tasks = workspaces.runs.task_runs(workspace, run.get("parent_run_id", run_id))
        listed = [
            {
                "key": task["task_key"],
                "id": task["run_id"],
                "state": shown_state(task),
                "took": _took(task),
                "message": task["state"].get("state_message", ""),
                "attempts": task["attempt_number"] + 1,
                "compute": f"cluster {task['existing_cluster_id']}"
                if task.get("existing_cluster_id")
                else "job cluster",
                "log": workspaces.runs.log_text(task["run_id"]),
            }
            for task in tasks
        ]
        return page(
            f"Run {run_id}",
            "run",
            refresh=not ended(run),
            workspace=workspace,
            run=run,
            state=shown_state(run),
            started=_started(run),
            took=_took(run),
            graph=graph(tasks),
            tasks=listed,
        )


def _schedule(settings: dict[str, Any]) -> str:
    schedule = settings.get("schedule")
    if not schedule:
        return ""
    paused = "" if schedule.get("pause_status", "UNPAUSED") == "UNPAUSED" else " (paused)"
    return f"{schedule['quartz_cron_expression']} {schedule['timezone_id']}{paused}"
