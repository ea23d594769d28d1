"""Show pages for people: jobs, runs, and a run with its task graph and logs."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, request, send_file
from werkzeug.routing import BaseConverter, ValidationError

from local_workspace.addresses import mlflow_url
from local_workspace.errors import not_found
from local_workspace.routes.artifacts import file_of_run
from local_workspace.routes.common import all_workspaces, this_workspace
from local_workspace.routes.task_graph import BOX_HEIGHT, BOX_WIDTH, NARROW, WIDE, task_graph
from local_workspace.runs.states import ended
from local_workspace.store import JOB
from local_workspace.tokens import COOKIE

blueprint = Blueprint("pages", __name__)

_RUNS_SHOWN = 50
# Letters of a task's key that fit into its box.
_LONGEST_SHOWN = 24
# How a task's output says that it logged a page to MLflow.
_LOGGED_PAGE = re.compile(r"([\w-]+\.html) of run ([0-9a-f]{32})")
# The fill and the line of a task's box.
_COLORS = {
    "SUCCESS": ("#d9f2e3", "#14643a"),
    "FAILED": ("#fbe0dd", "#9b2a1d"),
    "TIMEDOUT": ("#fbe0dd", "#9b2a1d"),
    "RUNNING": ("#dceefa", "#0b5c86"),
    "UPSTREAM_FAILED": ("#fbf0d4", "#7a5a0b"),
    "CANCELED": ("#fbf0d4", "#7a5a0b"),
}
_OTHER_COLORS = ("#eef1f3", "#5d6b74")


def _shown_state(run: dict[str, Any]) -> str:
    """Return the word shown for a state: the result, or the life cycle state of a run that has none yet."""
    return str(run["state"].get("result_state") or run["state"]["life_cycle_state"])


def _duration(run: dict[str, Any]) -> str:
    if not run.get("start_time"):
        return "–"
    end = run.get("end_time") or datetime.now(timezone.utc).timestamp() * 1000
    seconds = max(0, round((end - run["start_time"]) / 1000))
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"


def _started(run: dict[str, Any]) -> str:
    if not run.get("start_time"):
        return "–"
    return datetime.fromtimestamp(run["start_time"] / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _graph(tasks: list[dict[str, Any]], boxes_in_line: int) -> dict[str, Any]:
    """Return the task graph's drawing, with what each task's box shows."""
    needs = {task["task_key"]: [need["task_key"] for need in task.get("depends_on") or []] for task in tasks}
    drawing = task_graph(needs, boxes_in_line)
    return {**drawing, "nodes": [_box(task, *drawing["places"][task["task_key"]]) for task in tasks]}


def _box(task: dict[str, Any], x: int, y: int) -> dict[str, Any]:
    key, state = task["task_key"], _shown_state(task)
    fill, stroke = _COLORS.get(state, _OTHER_COLORS)
    return {
        "key": key,
        "shown": key if len(key) <= _LONGEST_SHOWN else f"{key[: _LONGEST_SHOWN - 1]}…",
        "x": x,
        "y": y,
        "state": state,
        "fill": fill,
        "stroke": stroke,
        "took": f" · {_duration(task)}" if task.get("start_time") else "",
    }


class EnvironmentConverter(BaseConverter):
    """The part of a page's address that is the name of an environment of the project."""

    def to_python(self, value: str) -> str:
        """Return the name; raise ValidationError, which leads to 404, when there is no such environment."""
        if value not in all_workspaces().environments:
            raise ValidationError
        return value


def register(flask: Flask) -> None:
    """Add the pages to the application."""
    flask.url_map.converters["environment"] = EnvironmentConverter
    flask.register_blueprint(blueprint)


def _page(title: str, template: str, *, refresh: bool = False, **values: Any) -> str:
    names = all_workspaces().environments
    return render_template(f"{template}.html", title=title, refresh=refresh, names=names, **values)


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Any:
    """Ask for the owner's token, and keep a right one in a cookie."""
    given = request.form.get("token") or request.args.get("token")
    if given and all_workspaces().tokens.is_owner(given):
        answer = redirect("/")
        answer.set_cookie(COOKIE, all_workspaces().token, httponly=True, samesite="Strict")
        return answer
    return _page("Token", "login", wrong=bool(given)), 403 if given else 200


@blueprint.get("/")
def home() -> str:
    """Lead to the first environment's jobs, or to MLflow for one of its links.

    MLflow prints links such as /#/experiments/1. What follows the # never reaches a server, so the browser decides.
    """
    jobs = f"/{all_workspaces().environments[0]}/jobs"
    target = f"location.hash.startsWith('#/') ? '/mlflow/' + location.hash : '{jobs}'"
    return f"<!doctype html><title>local workspace</title><script>location.replace({target})</script>"


@blueprint.get("/<environment:workspace>/jobs")
def jobs_page(workspace: str) -> str:
    """Show the jobs of a workspace, each with its latest run, and the latest runs."""
    runs = all_workspaces().records.newest_first(workspace)
    latest = {run["job_id"]: run for run in reversed(runs)}
    jobs = [_job_row(job, latest.get(job["job_id"])) for job in all_workspaces().store.all(workspace, JOB)]
    rows = [_run_row(run) for run in runs[:_RUNS_SHOWN]]
    return _page(f"Jobs of {workspace}", "jobs", workspace=workspace, jobs=jobs, runs=rows)


@blueprint.get("/<environment:workspace>/runs/<int:run_id>")
def run_page(workspace: str, run_id: int) -> str:
    """Show a run with its task graph and the logs of its tasks."""
    records = all_workspaces().records
    run = records.get(workspace, run_id)
    tasks = records.latest_task_runs(workspace, run.get("parent_run_id", run_id))
    return _page(
        f"Run {run_id}",
        "run",
        refresh=not ended(run),
        workspace=workspace,
        run=run,
        state=_shown_state(run),
        started=_started(run),
        took=_duration(run),
        repairs=len(run.get("repair_history", [])[1:]),
        graphs={"wide": _graph(tasks, WIDE), "narrow": _graph(tasks, NARROW)},
        box=(BOX_WIDTH, BOX_HEIGHT),
        tasks=[_task_section(task, records.log_text(task["run_id"])) for task in tasks],
    )


@blueprint.get("/<environment:workspace>/artifacts/<run_id>/<name>")
def artifact_page(workspace: str, run_id: str, name: str) -> Response:
    """Show a page that a task logged to MLflow."""
    file = file_of_run(workspace, run_id, name)
    if file is None or file.suffix != ".html":
        raise not_found(f"Run {run_id} has no page {name}.")
    answer = send_file(file.resolve(), mimetype="text/html")
    # Whoever can log an artifact must not be able to call the workspace as the one who reads it.
    answer.headers["Content-Security-Policy"] = "sandbox"
    return answer


@blueprint.get("/ml/<path:page>")
def mlflow_page(page: str) -> Any:
    """Lead to MLflow's page of an experiment, a run or a model by the address that MLflow prints for Databricks."""
    return redirect(f"{mlflow_url('', this_workspace())}/#/{page}")


def _job_row(job: dict[str, Any], latest_run: dict[str, Any] | None) -> dict[str, Any]:
    settings = job["settings"]
    return {
        "name": settings["name"],
        "id": job["job_id"],
        "tasks": len(settings.get("tasks") or [1]),
        "schedule": _schedule(settings),
        "run": latest_run,
        "run_state": _shown_state(latest_run) if latest_run else "",
    }


def _run_row(run: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": run["run_id"],
        "name": run["run_name"],
        "started": _started(run),
        "took": _duration(run),
        "state": _shown_state(run),
    }


def _task_section(task: dict[str, Any], log_text: str) -> dict[str, Any]:
    cluster = task.get("existing_cluster_id")
    return {
        "key": task["task_key"],
        "id": task["run_id"],
        "state": _shown_state(task),
        "took": _duration(task),
        "message": task["state"].get("state_message", ""),
        "attempts": task["attempt_number"] + 1,
        "compute": f"cluster {cluster}" if cluster else "serverless" if task.get("environment_key") else "job cluster",
        "log": log_text,
        "pages": [{"name": name, "mlflow_run": run} for name, run in dict.fromkeys(_LOGGED_PAGE.findall(log_text))],
    }


def _schedule(settings: dict[str, Any]) -> str:
    schedule = settings.get("schedule")
    if not schedule:
        return ""
    paused = "" if schedule.get("pause_status", "UNPAUSED") == "UNPAUSED" else " (paused)"
    return f"{schedule['quartz_cron_expression']} {schedule['timezone_id']}{paused}"
