"""Run the commands of execution contexts (API 1.2), in which a Python keeps its variables, for `dbx execute`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from local_workspace import process
from local_workspace.dbfs import without_mounts
from local_workspace.errors import invalid, not_found

_LONG_POLL_SECONDS = 4.0

# The program reads each command as one line of JSON, runs it and answers with one line of JSON. Its arguments are the
# program of tasks, whose `mount` it needs, and the folders it mounts, as JSON.
_COMMAND_LOOP = """\
import contextlib, io, json, sys, textwrap, traceback, types
task = types.ModuleType("task_process")
exec(sys.argv[1], task.__dict__)
task.mount(json.loads(sys.argv[2]))
replies, names = sys.stdout, {"__name__": "__main__"}
for line in sys.stdin:
    out, failure = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            exec(compile(textwrap.dedent(json.loads(line)), "<command>", "exec"), names)
    except SystemExit as stopped:
        if stopped.code not in (None, 0):
            failure = f"{out.getvalue()}SystemExit: {stopped.code}"
    except BaseException:
        failure = out.getvalue() + traceback.format_exc()
    replies.write(json.dumps({"data": out.getvalue().strip(), "failure": failure}) + "\\n")
    replies.flush()
"""


class Context:
    """A Python process and the commands it was given."""

    def __init__(self, identifier: str, env: dict[str, str], folder: Path, mounts: dict[str, str]) -> None:
        self.identifier = identifier
        self.libraries = folder / "libraries"
        self._mounts = mounts
        self._commands: dict[str, dict[str, object]] = {}
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / "stderr.log").open("ab")
        with log:
            self._python = subprocess.Popen(
                [sys.executable, "-u", "-c", _COMMAND_LOOP, process.TASK_PROGRAM, json.dumps(mounts)],
                cwd=folder,
                env=env,
                text=True,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    @property
    def running(self) -> bool:
        """Return whether the process is alive."""
        return self._python.poll() is None

    def execute(self, command: str) -> str:
        """Start a command and return its id; it runs after those given before it."""
        command_id = f"{self.identifier}-{len(self._commands) + 1}"
        self._set(command_id, {"id": command_id, "status": "Running", "results": {}})
        threading.Thread(target=self._execute, args=(command_id, command), daemon=True).start()
        return command_id

    def status(self, command_id: str) -> dict[str, object]:
        """Return a command's status; wait up to four seconds for its end, because clients poll slowly.

        Raises: ApiError 404 when there is no such command.
        """
        with self._changed:
            if command_id not in self._commands:
                raise not_found(f"Command {command_id} does not exist")
            self._changed.wait_for(lambda: self._commands[command_id]["status"] != "Running", _LONG_POLL_SECONDS)
            return dict(self._commands[command_id])

    def stop(self) -> None:
        """End the process and everything it started."""
        process.kill_group(self._python.pid)
        self._python.wait()

    def _set(self, command_id: str, values: dict[str, object]) -> None:
        with self._changed:
            self._commands[command_id] = values
            self._changed.notify_all()

    def _execute(self, command_id: str, command: str) -> None:
        with self._turn:
            try:
                data, failure = self._answer(without_mounts(command, self._mounts))
            except (OSError, ValueError) as error:
                data, failure = "", f"The Python process ended: {error}"
        if failure is None:
            results: dict[str, object] = {"resultType": "text", "data": data}
        else:
            results = {"resultType": "error", "cause": failure, "summary": failure.strip().splitlines()[-1]}
        self._set(command_id, {"id": command_id, "status": "Finished", "results": results})

    def _answer(self, command: str) -> tuple[str, str | None]:
        if command.strip().startswith("%pip"):
            return self._pip(command.split())
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps(command) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._python.stdout.readline())
        return answer["data"], answer["failure"]

    def _pip(self, words: list[str]) -> tuple[str, str | None]:
        """Install the wheels that `%pip install … FILE.whl` names, without dependencies, for this context only."""
        wheels = [word.strip('"').partition("[")[0] for word in words if ".whl" in word]
        if not wheels:
            return "", "local_workspace installs wheels only"
        done = subprocess.run(process.pip_install(self.libraries, *wheels), capture_output=True, text=True, check=False)
        if done.returncode:
            return "", done.stderr
        return self._answer(f"import sys\nsys.path.insert(0, {str(self.libraries)!r})")


class Contexts:
    """The contexts of every workspace; they end with the server."""

    def __init__(self) -> None:
        self._contexts: dict[str, Context] = {}
        self._lock = threading.Lock()

    def create(self, language: str, env: dict[str, str], folder: Path, mounts: dict[str, str], number: int) -> str:
        """Start a context and return its id.

        Raises: ApiError 400 for a language other than Python.
        """
        if language != "python":
            raise invalid(f"Language {language} is not supported; local_workspace speaks python")
        context = Context(str(number), env, folder / str(number), mounts)
        with self._lock:
            self._contexts[context.identifier] = context
        return context.identifier

    def get(self, identifier: str) -> Context:
        """Return a context.

        Raises: ApiError 404 when there is none with that id.
        """
        with self._lock:
            context = self._contexts.get(identifier)
        if context is None:
            raise not_found(f"ContextNotFound: {identifier}")
        return context

    def stop(self) -> None:
        """End every context."""
        with self._lock:
            contexts, self._contexts = list(self._contexts.values()), {}
        for context in contexts:
            context.stop()
