"""Record runs in the store and describe them as the Jobs API does."""

from __future__ import annotations

from local_workspace.errors import ApiError, invalid, not_found
from local_workspace.layout import Layout
from local_workspace.runs.repairs import history
from local_workspace.runs.requests import RunRequest, described_job_parameters
from local_workspace.runs.settings import tasks_of
from local_workspace.runs.states import ended, now, state, status
from local_workspace.store import RUN, TASK_RUN, Document, Store

_OUTPUT_LIMIT = 5 * 1024 * 1024  # bytes


class RunRecords:
    """The recorded runs of every workspace, their task runs and their output."""

    def __init__(self, store: Store, layout: Layout, url: str) -> None:
        self._store = store
        self._layout = layout
        self._url = url

    def create(
        self,
        workspace: str,
        settings: Document,
        tasks: list[Document],
        request: RunRequest,
    ) -> int:
        """Record a run and a task run for each of its tasks, all of them pending, and return the run's id."""
        run_id = self._store.next_number()
        page = f"{self._url}/{workspace}/runs/{run_id}"
        run: Document = {
            "run_id": run_id,
            "job_id": request.job_id or run_id,
            "number_in_job": run_id,
            "original_attempt_run_id": run_id,
            "run_name": settings.get("name") or settings.get("run_name") or "Untitled",
            "creator_user_name": request.creator,
            "run_as_user_name": request.run_as,
            "run_type": "JOB_RUN" if request.job_id else "SUBMIT_RUN",
            "trigger": request.trigger,
            "format": "MULTI_TASK",
            "start_time": now(),
            "setup_duration": 0,
            "execution_duration": 0,
            "cleanup_duration": 0,
            "run_duration": 0,
            "end_time": 0,
            "state": state("PENDING"),
            "run_page_url": page,
            "settings": settings,
            "overriding_parameters": request.overriding,
            "job_parameters": described_job_parameters(settings, request.job_parameters),
        }
        with self._store.transaction():
            self._store.put(workspace, RUN, run_id, run)
            for task in tasks:
                if not request.only or task["task_key"] in request.only:
                    self._create_task_run(workspace, run_id, task, page)
        return run_id

    def repair(self, workspace: str, run: Document, keys: set[str], overriding: Document) -> int:
        """Record a repair of a run: a new task run for each of its tasks in `keys`, all pending; return its id."""
        run_id, repair_id = run["run_id"], self._store.next_number()
        tasks = {task["task_key"]: task for task in tasks_of(run["settings"])}
        with self._store.transaction():
            latest = {task["task_key"]: task for task in self.latest_task_runs(workspace, run_id)}
            added = [
                self._create_task_run(
                    workspace, run_id, tasks[key], run["run_page_url"], attempt=latest[key]["attempt_number"] + 1
                )
                for key in latest
                if key in keys
            ]
            repairs = run.get("repairs") or []
            first = {} if repairs else {"first_end_time": run["end_time"], "first_state": run["state"]}
            repair = {
                "id": repair_id,
                "start_time": now(),
                "end_time": 0,
                "state": state("PENDING"),
                "task_run_ids": added,
            }
            changes = {"state": state("PENDING"), "end_time": 0, "repairs": [*repairs, repair], **first, **overriding}
            self._store.change(workspace, RUN, run_id, **changes)
        return repair_id

    def _create_task_run(self, workspace: str, run_id: int, task: Document, page: str, attempt: int = 0) -> int:
        task_run_id = self._store.next_number()
        task_run = {
            **{key: task[key] for key in task if key != "settings"},
            "run_id": task_run_id,
            "parent_run_id": run_id,
            "state": state("PENDING"),
            "start_time": 0,
            "end_time": 0,
            "setup_duration": 0,
            "execution_duration": 0,
            "cleanup_duration": 0,
            "attempt_number": attempt,
            "run_page_url": f"{page}#{task['task_key']}",
        }
        self._store.put(workspace, TASK_RUN, task_run_id, task_run)
        return task_run_id

    def get(self, workspace: str, run_id: int) -> Document:
        """Return a run with its tasks, or a task run.

        Raises: ApiError 404 when there is none with that id.
        """
        run = self._store.get(workspace, RUN, run_id)
        if run is None:
            task_run = self._store.get(workspace, TASK_RUN, run_id)
            if task_run is None:
                raise not_found(f"Run {run_id} does not exist.")
            return _public(task_run)
        settings = run.pop("settings")
        extra = {key: settings[key] for key in ("job_clusters", "schedule", "timeout_seconds") if key in settings}
        tasks = self.task_runs(workspace, run_id)
        more = {"tasks": [_public(task) for task in tasks], "repair_history": history(run, tasks)}
        return _public({**extra, **run, **more})

    def newest_first(self, workspace: str, *, job_id: int | None = None) -> list[Document]:
        """Return the runs of a job, or of every job, newest first."""
        runs = [run for run in self._store.all(workspace, RUN) if job_id is None or run["job_id"] == job_id]
        return sorted(runs, key=lambda run: run["run_id"], reverse=True)

    def active(self, workspace: str, job_id: int) -> list[Document]:
        """Return the runs of a job that have not ended."""
        return [run for run in self.newest_first(workspace, job_id=job_id) if not ended(run)]

    def task_runs(self, workspace: str, run_id: int) -> list[Document]:
        """Return the task runs of a run, in the order of the job's tasks."""
        found = [task for task in self._store.all(workspace, TASK_RUN) if task["parent_run_id"] == run_id]
        return sorted(found, key=lambda task: task["run_id"])

    def latest_task_runs(self, workspace: str, run_id: int) -> list[Document]:
        """Return the latest task run of each task of a run, in the order of the job's tasks."""
        found: dict[str, Document] = {}
        for task in self.task_runs(workspace, run_id):
            found[task["task_key"]] = task
        return list(found.values())

    def end_run(self, workspace: str, run_id: int, final: Document) -> None:
        """Record that a run, or the repair of one, has ended in the state `final`."""
        with self._store.transaction():
            run, end = self._store.get(workspace, RUN, run_id), now()
            assert run is not None, "a run that ends is in the store"
            took = end - run["start_time"]
            for repair in (run.get("repairs") or [])[-1:]:
                repair |= {"state": final, "end_time": end}
            run |= {"state": final, "end_time": end, "run_duration": took, "execution_duration": took}
            self._store.put(workspace, RUN, run_id, run)

    def end_task(self, workspace: str, task: Document, life_cycle: str, result: str, message: str) -> None:
        """Record that a task run has ended."""
        with self._store.transaction():
            stored, end = self._store.get(workspace, TASK_RUN, task["run_id"]), now()
            assert stored is not None, "a task run that ends is in the store"
            began = stored["start_time"] or end
            self._store.change(
                workspace,
                TASK_RUN,
                task["run_id"],
                state=state(life_cycle, result, message),
                end_time=end,
                execution_duration=end - began - stored.get("setup_duration", 0),
            )

    def delete(self, workspace: str, run_id: int) -> None:
        """Remove a run that has ended, and its task runs.

        Raises: ApiError 404 when there is none with that id; ApiError 400 when it is under way.
        """
        run = self._store.get(workspace, RUN, run_id)
        if run is None:
            raise not_found(f"Run {run_id} does not exist.")
        if not ended(run):
            raise ApiError(400, "INVALID_STATE", f"Run {run_id} can't be deleted while it is active.")
        with self._store.transaction():
            for task in self.task_runs(workspace, run_id):
                self._store.delete(workspace, TASK_RUN, task["run_id"])
            self._store.delete(workspace, RUN, run_id)

    def output(self, workspace: str, run_id: int) -> Document:
        """Return what `runs/get-output` answers for a task run, or for a run of one task.

        Raises: ApiError 404 when there is none with that id; ApiError 400 for a run of several tasks.
        """
        task = self._store.get(workspace, TASK_RUN, run_id)
        if task is None:
            run = self.get(workspace, run_id)
            if len({task["task_key"] for task in run["tasks"]}) != 1:
                raise invalid("Retrieving the output of runs with multiple tasks is not supported.")
            task = self._store.get(workspace, TASK_RUN, run["tasks"][-1]["run_id"])
            assert task is not None, "a run's tasks are in the store"
        logs = self.log_text(task["run_id"])
        answer: Document = {"metadata": _public(task), "logs": logs, "logs_truncated": False}
        if task["state"].get("result_state") == "FAILED":
            lines = [line for line in logs.strip().splitlines() if line]
            answer["error"] = lines[-1] if lines else task["state"]["state_message"]
            start = logs.rfind("Traceback (most recent call last)")
            if start >= 0:
                answer["error_trace"] = logs[start:]
        return answer

    def log_text(self, run_id: int) -> str:
        """Return a task run's output, or its last five megabytes."""
        path = self._layout.log(run_id)
        if not path.exists():
            return ""
        return path.read_bytes()[-_OUTPUT_LIMIT:].decode(errors="replace")


def _public(run: Document) -> Document:
    private = ("process_", "first_", "repairs")
    return {**{key: value for key, value in run.items() if not key.startswith(private)}, "status": status(run)}
