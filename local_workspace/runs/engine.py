"""Follow runs: start their tasks in the order of their dependencies, end them on a timeout or when cancelled."""

from __future__ import annotations

import logging
import threading
import time

from local_workspace import process
from local_workspace.errors import not_found
from local_workspace.layout import Layout
from local_workspace.runs.records import RunRecords
from local_workspace.runs.repairs import tasks_to_rerun
from local_workspace.runs.requests import RunRequest, described_job_parameters, job_parameters, overriding_parameters
from local_workspace.runs.settings import tasks_of
from local_workspace.runs.states import ended, overall_state, state, succeeded
from local_workspace.runs.task_runner import TaskRunner
from local_workspace.store import RUN, TASK_RUN, Document, Store

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_NO_TIMEOUT_SECONDS = 10**9
# The kind of the documents that say which run an idempotency token has started.
_IDEMPOTENCY = "idempotency token"


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
                    gone = "The workspace was stopped while this was under way."
                    if kind == TASK_RUN:
                        self._records.end_task(workspace, run, "INTERNAL_ERROR", "FAILED", gone)
                    else:
                        self._records.end_run(workspace, run["run_id"], state("INTERNAL_ERROR", "FAILED", gone))
        for cluster in self._layout.clusters():
            process.end_shared_jvm(cluster)

    def submit(
        self,
        workspace: str,
        settings: Document,
        request: RunRequest,
    ) -> int:
        """Start a run and return its id; a job with too many active runs gets one that is skipped.

        A request with the idempotency token of an earlier one gets that one's run.

        Raises: ApiError 400 when the tasks can't be run as given.
        """
        tasks, token, job_id = tasks_of(settings), request.idempotency_token, request.job_id
        with self._start_lock:
            earlier = self._store.get(workspace, _IDEMPOTENCY, token) if token else None
            if earlier:
                return int(earlier["run_id"])
            skipped = job_id is not None and self._is_at_limit(workspace, settings, job_id)
            with self._store.transaction():
                run_id = self._records.create(workspace, settings, tasks, request)
                if token:
                    self._store.put(workspace, _IDEMPOTENCY, token, {"run_id": run_id})
                if skipped:
                    self._skip(workspace, run_id)
            if not skipped:
                self._start(workspace, run_id)
        return run_id

    def repair(self, workspace: str, run_id: int, fields: Document) -> int:
        """Run tasks of a run that has ended again, those that a request's fields name, and return the repair's id.

        Raises: ApiError 404 when there is no such run; ApiError 400 when it can't be repaired as asked.
        """
        given, values = overriding_parameters(fields), job_parameters(fields)
        with self._start_lock:
            run = self._store.get(workspace, RUN, run_id)
            if run is None:
                raise not_found(f"Run {run_id} does not exist.")
            keys = tasks_to_rerun(fields, run, self._records.latest_task_runs(workspace, run_id))
            overriding: Document = {"overriding_parameters": given} if given else {}
            if values:
                overriding["job_parameters"] = described_job_parameters(run["settings"], values)
            repair_id = self._records.repair(workspace, run, keys, overriding)
            self._cancelled.discard(run_id)
            self._start(workspace, run_id)
        return repair_id

    def _start(self, workspace: str, run_id: int) -> None:
        thread = threading.Thread(target=self._follow, args=(workspace, run_id), daemon=True)
        self._threads[run_id] = thread
        thread.start()

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
            for task in self._records.latest_task_runs(workspace, run_id):
                if not ended(task):
                    self._records.end_task(workspace, task, "INTERNAL_ERROR", "FAILED", str(error))
            self._records.end_run(workspace, run_id, state("INTERNAL_ERROR", "FAILED", str(error)))
        finally:
            for cluster in self._layout.clusters(run_id):
                process.end_shared_jvm(cluster)
            # A repair may have put its own thread there by now.
            if self._threads.get(run_id) is threading.current_thread():
                del self._threads[run_id]

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
            if all(ended(task) for task in self._records.latest_task_runs(workspace, run_id)):
                break
            time.sleep(_POLL_SECONDS)
        tasks = self._records.latest_task_runs(workspace, run_id)
        final = overall_state(tasks, cancelled=run_id in self._cancelled, timed_out=timed_out)
        self._records.end_run(workspace, run_id, final)

    def _advance(
        self, workspace: str, run: Document, started: set[str], stop: threading.Event, stop_result: str
    ) -> None:
        """Start the tasks whose dependencies have succeeded, and end those that are not to be started.

        `started` holds the keys of the tasks started so far, and grows. When `stop` is set the tasks that are pending
        end with `stop_result`.
        """
        tasks = {task["task_key"]: task for task in self._records.latest_task_runs(workspace, run["run_id"])}
        for key, task in tasks.items():
            if task["state"]["life_cycle_state"] != "PENDING" or key in started:
                continue
            # A run of only some tasks does not wait for the others.
            needs = [tasks[need["task_key"]] for need in task.get("depends_on") or [] if need["task_key"] in tasks]
            if stop.is_set():
                message = f"The run was {stop_result.lower()}."
                self._records.end_task(workspace, task, "TERMINATED", stop_result, message)
            elif any(ended(need) and not succeeded(need) for need in needs):
                self._records.end_task(workspace, task, "SKIPPED", "UPSTREAM_FAILED", "An upstream task failed.")
            elif all(ended(need) for need in needs):
                started.add(key)
                threading.Thread(target=self._runner.run, args=(workspace, run, task, stop), daemon=True).start()
