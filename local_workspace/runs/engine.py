"""Follow runs: start their tasks in the order of their dependencies, end them on a timeout or when cancelled."""

from __future__ import annotations

import logging
import threading
import time

from local_workspace import process
from local_workspace.errors import not_found
from local_workspace.layout import Layout
from local_workspace.runs.records import RunRecords
from local_workspace.runs.settings import tasks_of
from local_workspace.runs.states import ended, now, overall_state, state, succeeded
from local_workspace.runs.task_runner import TaskRunner
from local_workspace.store import RUN, TASK_RUN, Document, Store

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_NO_TIMEOUT_SECONDS = 10**9


class RunEngine:
    """Starts runs, follows each in a thread of its own until it has ended, and cancels them."""

    def __init__(self, store: Store, layout: Layout, records: RunRecords, runner: TaskRunner) -> None:
        self._store = store
        self._layout = layout
        self._records = records
        self._runner = runner
        self._cancelled: set[int] = set()
        self._threads: dict[int, threading.Thread] = {}
        self._start_lock = threading.Lock()
        self._end_interrupted_runs()

    def _end_interrupted_runs(self) -> None:
        """End the runs that a server which was killed has left in the store, and their processes."""
        for workspace in self._store.workspaces():
            for kind in (TASK_RUN, RUN):
                for run in self._store.all(workspace, kind):
                    if ended(run):
                        continue
                    process_id = run.get("process_id")
                    if process_id and process.start_ticks(process_id) == run.get("process_birth"):
                        process.kill_group(process_id)
                    gone = state("INTERNAL_ERROR", "FAILED", "The workspace was stopped while this was under way.")
                    self._store.change(workspace, kind, run["run_id"], state=gone, end_time=now())
        for cluster in self._layout.clusters():
            process.end_shared_jvm(cluster)

    def submit(
        self,
        workspace: str,
        settings: Document,
        *,
        job_id: int | None,
        user: str,
        parameters: list[str] | None = None,
        trigger: str = "ONE_TIME",
    ) -> int:
        """Start a run and return its id; a job with too many active runs gets one that is skipped.

        Raises: ApiError 400 when the tasks can't be run as given.
        """
        tasks = tasks_of(settings)
        with self._start_lock:
            skipped = job_id is not None and self._is_at_limit(workspace, settings, job_id)
            with self._store.transaction():
                run_id = self._records.create(
                    workspace, settings, tasks, job_id=job_id, user=user, parameters=parameters, trigger=trigger
                )
                if skipped:
                    self._skip(workspace, run_id)
            if not skipped:
                thread = threading.Thread(target=self._follow, args=(workspace, run_id), daemon=True)
                self._threads[run_id] = thread
                thread.start()
        return run_id

    def _is_at_limit(self, workspace: str, settings: Document, job_id: int) -> bool:
        return len(self._records.active(workspace, job_id)) >= int(settings.get("max_concurrent_runs") or 1)

    def _skip(self, workspace: str, run_id: int) -> None:
        result = "MAXIMUM_CONCURRENT_RUNS_REACHED"
        message = "The job has as many active runs as max_concurrent_runs allows."
        self._records.end_run(workspace, run_id, state("SKIPPED", result, message))
        for task in self._records.task_runs(workspace, run_id):
            self._records.end_task(workspace, task, "SKIPPED", result, "")

    def cancel(self, workspace: str, run_id: int) -> None:
        """Cancel a run; one that has ended stays as it is.

        Raises: ApiError 404 when there is none with that id.
        """
        if self._store.get(workspace, RUN, run_id) is None:
            raise not_found(f"Run {run_id} does not exist.")
        self._cancelled.add(run_id)

    def cancel_all(self, workspace: str, job_id: int) -> None:
        """Cancel the runs of a job that have not ended."""
        for run in self._records.active(workspace, job_id):
            self.cancel(workspace, run["run_id"])

    def wait(self, workspace: str, run_id: int) -> Document:
        """Wait until a run has ended and return it."""
        while not ended(run := self._records.get(workspace, run_id)):
            time.sleep(_POLL_SECONDS)
        return run

    def stop(self) -> None:
        """Cancel every run of this server and wait until their processes have ended."""
        self._cancelled.update(self._threads)
        for thread in list(self._threads.values()):
            thread.join(timeout=30)

    def _follow(self, workspace: str, run_id: int) -> None:
        """Run the tasks of a run, and record an error of this program as the run's failure."""
        try:
            self._run_tasks(workspace, run_id)
        except Exception as error:
            log.exception("run %s", run_id)
            for task in self._records.task_runs(workspace, run_id):
                if not ended(task):
                    self._records.end_task(workspace, task, "INTERNAL_ERROR", "FAILED", str(error))
            self._records.end_run(workspace, run_id, state("INTERNAL_ERROR", "FAILED", str(error)))
        finally:
            for cluster in self._layout.clusters(run_id):
                process.end_shared_jvm(cluster)
            self._threads.pop(run_id, None)

    def _run_tasks(self, workspace: str, run_id: int) -> None:
        run = self._store.change(workspace, RUN, run_id, state=state("RUNNING"))
        deadline = time.monotonic() + (run["settings"].get("timeout_seconds") or _NO_TIMEOUT_SECONDS)
        started: set[str] = set()
        stop = threading.Event()
        timed_out = False
        while True:
            timed_out = timed_out or time.monotonic() > deadline
            if timed_out or run_id in self._cancelled:
                stop.set()
            self._advance(workspace, run, started, stop, "TIMEDOUT" if timed_out else "CANCELED")
            if all(ended(task) for task in self._records.task_runs(workspace, run_id)):
                break
            time.sleep(_POLL_SECONDS)
        tasks = self._records.task_runs(workspace, run_id)
        self._store.change(
            workspace,
            RUN,
            run_id,
            state=overall_state(tasks, cancelled=run_id in self._cancelled, timed_out=timed_out),
            end_time=now(),
            execution_duration=now() - run["start_time"],
        )

    def _advance(
        self, workspace: str, run: Document, started: set[str], stop: threading.Event, stop_result: str
    ) -> None:
        """Start the tasks whose dependencies have succeeded, and end those that are not to be started.

        `started` holds the keys of the tasks started so far, and grows. When `stop` is set the tasks that are pending
        end with `stop_result`.
        """
        tasks = {task["task_key"]: task for task in self._records.task_runs(workspace, run["run_id"])}
        for key, task in tasks.items():
            if task["state"]["life_cycle_state"] != "PENDING" or key in started:
                continue
            needs = [tasks[dependency["task_key"]] for dependency in task.get("depends_on") or []]
            if stop.is_set():
                message = f"The run was {stop_result.lower()}."
                self._records.end_task(workspace, task, "TERMINATED", stop_result, message)
            elif any(ended(need) and not succeeded(need) for need in needs):
                self._records.end_task(workspace, task, "SKIPPED", "UPSTREAM_FAILED", "An upstream task failed.")
            elif all(ended(need) for need in needs):
                started.add(key)
                threading.Thread(target=self._runner.run, args=(workspace, run, task, stop), daemon=True).start()
