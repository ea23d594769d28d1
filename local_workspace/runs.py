"""Runs of jobs: their tasks in order of their dependencies, with retries, timeouts and cancelling."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_workspace import process
from local_workspace.dbfs import Dbfs, fuse
from local_workspace.errors import ApiError, invalid, not_found
from local_workspace.store import Document, Store

log = logging.getLogger(__name__)

RUN, TASK_RUN, JOB, CLUSTER = "run", "task_run", "job", "cluster"
_ENDED = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
_POLL_SECONDS = 0.1
# A laptop does not wait the minutes that a production retry may.
_MAX_RETRY_WAIT_SECONDS = 5.0
_OUTPUT_LIMIT = 5 * 1024 * 1024


def now() -> int:
    """Milliseconds since 1970, as the Jobs API counts."""
    return int(time.time() * 1000)


def state(life_cycle: str, result: str | None = None, message: str = "") -> Document:
    """A run's state."""
    found: Document = {"life_cycle_state": life_cycle, "state_message": message, "user_cancelled_or_timedout": False}
    if result:
        found["result_state"] = result
    if result in ("CANCELED", "TIMEDOUT"):
        found["user_cancelled_or_timedout"] = True
    return found


def ended(run: Mapping[str, Any]) -> bool:
    """Whether a run or task run is over."""
    return run["state"]["life_cycle_state"] in _ENDED


class Runs:
    """Starts, follows, cancels and describes the runs of every workspace."""

    def __init__(
        self, store: Store, root: Path, url: str, task_environment: Callable[[str, str], dict[str, str]]
    ) -> None:
        self._store = store
        self._root = root
        self._url = url
        self._task_environment = task_environment
        self._cancelled: set[int] = set()
        self._threads: dict[int, threading.Thread] = {}
        self._start_lock = threading.Lock()
        self._close_what_was_under_way()

    def home(self, workspace: str) -> Path:
        """Where a workspace keeps its files, its lake and what its tasks leave behind."""
        return self._root / "workspaces" / workspace

    def dbfs(self, workspace: str) -> Dbfs:
        """A workspace's files."""
        return Dbfs(self.home(workspace) / "dbfs")

    def environment(self, workspace: str, principal: str, **added: str) -> dict[str, str]:
        """The variables of a process that does a workspace's work."""
        home, dbfs = self.home(workspace), self.dbfs(workspace)
        return process.environment(
            {
                **self._task_environment(workspace, principal),
                "BOOKING_LAKE": str(home / "lake"),
                # As on a cluster: workers run what the driver runs, not the first python3 on the PATH.
                "PYSPARK_PYTHON": sys.executable,
                "SPARK_CONF_DIR": str(process.spark_conf_dir(home / "spark-conf", dbfs.root)),
                **added,
            }
        )

    def _close_what_was_under_way(self) -> None:
        """After a crash nothing runs any more: neither the processes nor, in the store, the runs."""
        for workspace in self._store.workspaces():
            for kind in (TASK_RUN, RUN):
                for run in self._store.all(workspace, kind):
                    if ended(run):
                        continue
                    left = run.get("process_id")
                    if left and process.birth(left) == run.get("process_birth"):
                        process.kill_group(left)
                    gone = state("INTERNAL_ERROR", "FAILED", "The workspace was stopped while this was under way.")
                    self._store.change(workspace, kind, run["run_id"], state=gone, end_time=now())
        for cluster in self._clusters("*"):
            process.end_jvm(cluster)

    def _clusters(self, run: str) -> list[Path]:
        """The folders of the clusters of a run, by its number, or of every run."""
        return list((self._root / "clusters").glob(f"{run}/*"))

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
        """Begin a run and return its id.

        Raises: ApiError 400 when the tasks can't be run as given.
        """
        tasks = _tasks_of(settings)
        with self._start_lock:
            active = [run for run in self.of(workspace, job_id=job_id) if not ended(run)] if job_id else []
            run_id = self._store.next_number()
            too_many = len(active) >= int(settings.get("max_concurrent_runs") or 1) if job_id else False
            run: Document = {
                "run_id": run_id,
                "job_id": job_id or run_id,
                "number_in_job": run_id,
                "original_attempt_run_id": run_id,
                "run_name": settings.get("name") or settings.get("run_name") or "Untitled",
                "creator_user_name": user,
                "run_as_user_name": (settings.get("run_as") or {}).get("service_principal_name") or user,
                "run_type": "JOB_RUN" if job_id else "SUBMIT_RUN",
                "trigger": trigger,
                "format": "MULTI_TASK",
                "start_time": now(),
                "setup_duration": 0,
                "execution_duration": 0,
                "cleanup_duration": 0,
                "end_time": 0,
                "state": state("PENDING"),
                "run_page_url": f"{self._url}/{workspace}/runs/{run_id}",
                "settings": settings,
                "overriding_parameters": {"python_params": parameters} if parameters else {},
            }
            with self._store.transaction():
                for task in tasks:
                    task_run_id = self._store.next_number()
                    task_run = {
                        **{key: task[key] for key in task if key != "settings"},
                        "run_id": task_run_id,
                        "parent_run_id": run_id,
                        "state": state("PENDING"),
                        "start_time": 0,
                        "end_time": 0,
                        "attempt_number": 0,
                        "run_page_url": f"{self._url}/{workspace}/runs/{run_id}#{task['task_key']}",
                    }
                    self._store.put(workspace, TASK_RUN, task_run_id, task_run)
                if too_many:
                    message = "The job has as many active runs as max_concurrent_runs allows."
                    run |= {"state": state("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED", message), "end_time": now()}
                self._store.put(workspace, RUN, run_id, run)
                if too_many:
                    for task_run in self.task_runs(workspace, run_id):
                        self._end_task(workspace, task_run, "SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED", "")
            if not too_many:
                thread = threading.Thread(target=self._follow, args=(workspace, run_id), daemon=True)
                self._threads[run_id] = thread
                thread.start()
        return run_id

    def get(self, workspace: str, run_id: int) -> Document:
        """A run with its tasks, or one task's run.

        Raises: ApiError 404.
        """
        run = self._store.get(workspace, RUN, run_id)
        if run is None:
            task_run = self._store.get(workspace, TASK_RUN, run_id)
            if task_run is None:
                raise not_found(f"Run {run_id} does not exist.")
            return _public(task_run)
        settings = run.pop("settings")
        extra = {key: settings[key] for key in ("job_clusters", "schedule", "timeout_seconds") if key in settings}
        return _public({**extra, **run, "tasks": [_public(task) for task in self.task_runs(workspace, run_id)]})

    def of(self, workspace: str, *, job_id: int | None = None) -> list[Document]:
        """Runs, newest first."""
        runs = [run for run in self._store.all(workspace, RUN) if job_id is None or run["job_id"] == job_id]
        return sorted(runs, key=lambda run: run["run_id"], reverse=True)

    def task_runs(self, workspace: str, run_id: int) -> list[Document]:
        """The task runs of a run, in the order of the job."""
        found = [task for task in self._store.all(workspace, TASK_RUN) if task["parent_run_id"] == run_id]
        return sorted(found, key=lambda task: task["run_id"])

    def output(self, workspace: str, run_id: int) -> Document:
        """What get-output answers for a task's run.

        Raises: ApiError 404; ApiError 400 for a run of several tasks.
        """
        task = self._store.get(workspace, TASK_RUN, run_id)
        if task is None:
            run = self.get(workspace, run_id)
            if len(run["tasks"]) != 1:
                raise invalid("Retrieving the output of runs with multiple tasks is not supported.")
            task = self._store.get(workspace, TASK_RUN, run["tasks"][0]["run_id"])
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

    def log_path(self, run_id: int) -> Path:
        """Where a task's output goes."""
        return self._root / "logs" / f"{run_id}.log"

    def log_text(self, run_id: int) -> str:
        """A task's output; the end of it when it is very long."""
        path = self.log_path(run_id)
        if not path.exists():
            return ""
        content = path.read_bytes()
        return content[-_OUTPUT_LIMIT:].decode(errors="replace")

    def cancel(self, workspace: str, run_id: int) -> None:
        """End a run. One that is over stays as it is.

        Raises: ApiError 404.
        """
        if self._store.get(workspace, RUN, run_id) is None:
            raise not_found(f"Run {run_id} does not exist.")
        self._cancelled.add(run_id)

    def wait(self, workspace: str, run_id: int) -> Document:
        """A run when it is over."""
        while not ended(run := self.get(workspace, run_id)):
            time.sleep(_POLL_SECONDS)
        return run

    def stop(self) -> None:
        """End every run of this process, and wait until their processes are gone."""
        self._cancelled.update(self._threads)
        for thread in list(self._threads.values()):
            thread.join(timeout=30)

    def _follow(self, workspace: str, run_id: int) -> None:
        """The life of a run, in a thread of its own."""
        try:
            self._run_tasks(workspace, run_id)
        except Exception as error:
            log.exception("run %s", run_id)
            for task in self.task_runs(workspace, run_id):
                if not ended(task):
                    self._end_task(workspace, task, "INTERNAL_ERROR", "FAILED", str(error))
            failed = state("INTERNAL_ERROR", "FAILED", str(error))
            self._store.change(workspace, RUN, run_id, state=failed, end_time=now())
        finally:
            for cluster in self._clusters(str(run_id)):
                process.end_jvm(cluster)
            self._threads.pop(run_id, None)

    def _run_tasks(self, workspace: str, run_id: int) -> None:
        run = self._store.change(workspace, RUN, run_id, state=state("RUNNING"))
        settings = run["settings"]
        deadline = time.monotonic() + (settings.get("timeout_seconds") or 10**9)
        running: dict[str, threading.Thread] = {}
        stop = threading.Event()
        timed_out = False
        while True:
            tasks = {task["task_key"]: task for task in self.task_runs(workspace, run_id)}
            if run_id in self._cancelled:
                stop.set()
            if time.monotonic() > deadline:
                timed_out = True
                stop.set()
            for key, task in tasks.items():
                if task["state"]["life_cycle_state"] != "PENDING" or key in running:
                    continue
                needs = [tasks[dependency["task_key"]] for dependency in task.get("depends_on") or []]
                if stop.is_set():
                    result = "TIMEDOUT" if timed_out else "CANCELED"
                    self._end_task(workspace, task, "TERMINATED", result, f"The run was {result.lower()}.")
                elif any(ended(need) and need["state"].get("result_state") != "SUCCESS" for need in needs):
                    message = "An upstream task failed."
                    self._end_task(workspace, task, "SKIPPED", "UPSTREAM_FAILED", message)
                elif all(ended(need) for need in needs):
                    thread = threading.Thread(target=self._run_task, args=(workspace, run, task, stop), daemon=True)
                    running[key] = thread
                    thread.start()
            if all(ended(task) for task in self.task_runs(workspace, run_id)):
                break
            time.sleep(_POLL_SECONDS)
        self._store.change(
            workspace,
            RUN,
            run_id,
            state=_overall(self.task_runs(workspace, run_id), cancelled=run_id in self._cancelled, timed_out=timed_out),
            end_time=now(),
            execution_duration=now() - run["start_time"],
        )

    def _run_task(self, workspace: str, run: Document, task: Document, stop: threading.Event) -> None:
        try:
            self._attempts(workspace, run, task, stop)
        except Exception as error:
            # Whatever happens here is the task's failure: a run must never hang on a thread that died.
            if not isinstance(error, ApiError):
                log.exception("task %s", task["task_key"])
            with self.log_path(task["run_id"]).open("a", encoding="utf-8") as output:
                output.write(f"error: {error}\n")
            self._end_task(workspace, task, "INTERNAL_ERROR", "FAILED", str(error))

    def _attempts(self, workspace: str, run: Document, task: Document, stop: threading.Event) -> None:
        task_id = task["run_id"]
        log_file = self.log_path(task_id)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._store.change(workspace, TASK_RUN, task_id, start_time=now(), state=state("PENDING", message="Preparing"))
        cluster_id = self._awake_cluster(workspace, task)
        dbfs = self.dbfs(workspace)
        wheels = [dbfs.local(wheel) for wheel in process.wheels_of(task.get("libraries") or [])]
        for wheel in wheels:
            if not wheel.is_file():
                raise not_found(f"library {wheel.name} is not on DBFS")
        folders = process.install_wheels(wheels, self._root / "envs", log_file)
        wheel_task = task["python_wheel_task"]
        parameters = run["overriding_parameters"].get("python_params") or wheel_task.get("parameters") or []
        for key, value in (wheel_task.get("named_parameters") or {}).items():
            parameters = [*parameters, f"--{key}={value}"]
        command = [
            *(sys.executable, "-c", process.TASK, wheel_task["package_name"], wheel_task["entry_point"]),
            *[fuse(str(parameter), dbfs.root) for parameter in parameters],
        ]
        home = self.home(workspace)
        cluster = self._root / "clusters" / str(run["run_id"]) / cluster_id
        env = self.environment(
            workspace,
            run["run_as_user_name"],
            PYTHONPATH=":".join(map(str, folders)),
            LOCAL_CLUSTER=str(cluster),
        )
        most = int(task.get("max_retries") or 0)
        attempt = 0
        while True:
            self._store.change(
                workspace,
                TASK_RUN,
                task_id,
                attempt_number=attempt,
                state=state("RUNNING"),
                cluster_instance={"cluster_id": cluster_id},
            )
            result, message = self._one_process(workspace, task, command, env, home / "runs" / str(task_id), stop)
            if result != "SUCCESS":
                # What a task leaves behind that was stopped half-way is no place to begin another.
                process.end_jvm(cluster)
            again = result == "FAILED" or (result == "TIMEDOUT" and task.get("retry_on_timeout"))
            if not again or stop.is_set() or (most >= 0 and attempt >= most):
                break
            attempt += 1
            wait = min(float(task.get("min_retry_interval_millis") or 0) / 1000, _MAX_RETRY_WAIT_SECONDS)
            with log_file.open("a", encoding="utf-8") as output:
                output.write(f"{message} Attempt {attempt + 1} of {most + 1} follows.\n")
            stop.wait(wait)
        self._end_task(workspace, task, "TERMINATED", result, message)

    def _one_process(
        self, workspace: str, task: Document, command: list[str], env: dict[str, str], cwd: Path, stop: threading.Event
    ) -> tuple[str, str]:
        """One attempt; returns the result state and its message."""
        seconds = task.get("timeout_seconds") or 0
        deadline = time.monotonic() + seconds if seconds else None
        started = process.start(command, env, cwd, self.log_path(task["run_id"]))
        born = process.birth(started.pid)
        self._store.change(workspace, TASK_RUN, task["run_id"], process_id=started.pid, process_birth=born)
        try:
            while started.poll() is None:
                if stop.is_set():
                    return "CANCELED", "The run was canceled."
                if deadline is not None and time.monotonic() > deadline:
                    return "TIMEDOUT", f"The task took longer than {seconds} seconds."
                time.sleep(_POLL_SECONDS)
        finally:
            # The program may have ended and left a JVM; the group goes as a whole.
            process.kill_group(started.pid)
            started.wait()
            self._store.change(workspace, TASK_RUN, task["run_id"], process_id=None)
        if started.returncode == 0:
            return "SUCCESS", ""
        return "FAILED", f"The task ended with exit code {started.returncode}."

    def _awake_cluster(self, workspace: str, task: Document) -> str:
        cluster_id = task.get("existing_cluster_id")
        if not cluster_id:
            return f"job-{task['parent_run_id']}-{task.get('job_cluster_key') or task['task_key']}"
        cluster = self._store.get(workspace, CLUSTER, cluster_id)
        if cluster is None:
            raise not_found(f"Cluster {cluster_id} does not exist")
        if cluster["state"] != "RUNNING":
            with self.log_path(task["run_id"]).open("a", encoding="utf-8") as output:
                output.write(f"Cluster {cluster['cluster_name']} was {cluster['state']}; started\n")
            self._store.change(workspace, CLUSTER, cluster_id, state="RUNNING", start_time=now())
        return str(cluster_id)

    def _end_task(self, workspace: str, task: Document, life_cycle: str, result: str, message: str) -> None:
        started = task["start_time"] or now()
        self._store.change(
            workspace,
            TASK_RUN,
            task["run_id"],
            state=state(life_cycle, result, message),
            end_time=now(),
            execution_duration=now() - started,
        )


def _overall(tasks: list[Document], *, cancelled: bool, timed_out: bool) -> Document:
    results = [task["state"].get("result_state") for task in tasks]
    if timed_out:
        return state("TERMINATED", "TIMEDOUT", "The run took longer than its timeout.")
    if all(result == "SUCCESS" for result in results):
        return state("TERMINATED", "SUCCESS")
    if cancelled:
        return state("TERMINATED", "CANCELED", "The run was canceled.")
    failed = [task["task_key"] for task in tasks if task["state"].get("result_state") in ("FAILED", "TIMEDOUT")]
    return state(
        "INTERNAL_ERROR", "FAILED", f"Task {', '.join(failed)} failed. This caused all downstream tasks to be skipped."
    )


def _tasks_of(settings: Document) -> list[Document]:
    """The tasks of a job's settings, checked; a job of the 2.0 form is one task.

    Raises: ApiError 400.
    """
    tasks = settings.get("tasks")
    if tasks is None:
        keys = (
            "existing_cluster_id",
            "new_cluster",
            "libraries",
            "python_wheel_task",
            "timeout_seconds",
            "max_retries",
        )
        tasks = [{"task_key": "main", **{key: settings[key] for key in keys if key in settings}}]
    names = [task.get("task_key") for task in tasks]
    if len(set(names)) != len(names):
        raise invalid("Task keys must be unique.")
    shared = {cluster["job_cluster_key"] for cluster in settings.get("job_clusters") or []}
    for task in tasks:
        key = task.get("task_key")
        if not task.get("python_wheel_task"):
            raise invalid(f"Task {key}: local_workspace runs python_wheel_task only.")
        for dependency in task.get("depends_on") or []:
            if dependency["task_key"] not in names:
                raise invalid(f"Task {key} depends on {dependency['task_key']}, which is not a task of this job.")
        if task.get("job_cluster_key") and task["job_cluster_key"] not in shared:
            raise invalid(f"Task {key}: job cluster {task['job_cluster_key']} is not defined in field job_clusters.")
    waiting = {task["task_key"]: {need["task_key"] for need in task.get("depends_on") or []} for task in tasks}
    done: set[str] = set()
    while ready := {key for key, needs in waiting.items() if needs <= done and key not in done}:
        done |= ready
    if len(done) != len(waiting):
        raise invalid("Tasks depend on each other in a circle.")
    return list(tasks)


def check_settings(settings: Document) -> None:
    """Refuse a job that could not be run.

    Raises: ApiError 400.
    """
    if not settings.get("name"):
        raise invalid("Job name is missing.")
    _tasks_of(settings)


def _public(run: Document) -> Document:
    return {key: value for key, value in run.items() if not key.startswith("process_")}
