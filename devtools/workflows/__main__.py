"""Run here what GitHub would run: the `run:` steps of each workflow, in order, with the variables the workflow gives.

    python -m devtools.workflows              every scenario, in clean clones of HEAD, two at a time
    python -m devtools.workflows deploy       one of them

Only GitHub's own part is replaced: a checkout cleans the clone, artifacts are folders, a masked value is masked, and
the identity that a job with `id-token: write` asks for comes from local_workspace, which is also the Databricks
workspace behind DATABRICKS_HOST. A step that prints a secret fails the run.

The scenario `guide` types the commands of docs/databricks.md, in order, against an empty workspace. Host and token are
filled in, `Booking.csv` is synthetic, and the catalogs that the guide's SQL makes are made.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from devtools.workflows.runner import ONCE, REPOSITORY, Runner, Scenario, WorkflowError, say

ROOT = Path(__file__).resolve().parents[2]
GUIDE, FORK = "guide", "pull-request-of-a-fork"
# The guide has one workspace for every environment.
_GUIDES_WORKSPACE = "prod"
SYNTHETIC_FILE = ".venv/bin/booking-mlops make-data --rows 12000 --out Booking.csv"


def _pull_request(repository: str, *environments: str) -> Scenario:
    event = "github.event.pull_request"
    values = {f"{event}.number": "12", f"{event}.head.repo.full_name": repository}
    return Scenario("pull-request.yml", values, environments)


def _by_hand(environment: str, action: str, refused: str = "", **more: str) -> Scenario:
    inputs = {"environment": environment, "action": action, "workflow": "", "version": "", "reason": "", **more}
    return Scenario("launch.yml", {f"inputs.{key}": value for key, value in inputs.items()}, (environment,), refused)


SCENARIOS = {
    FORK: _pull_request("somebody/booking_mlops"),
    "pull-request": _pull_request(REPOSITORY, "staging"),
    "deploy": Scenario("deploy.yml", environments=("staging", "prod")),
    "launch": _by_hand("staging", "launch", workflow="staging-model-inference-batch"),
    "redeploy": _by_hand("prod", "deploy"),
    "rollback-without-an-earlier-champion": _by_hand("staging", "rollback", refused="had no champion before version"),
    "approval-of-the-champion": _by_hand(
        "staging", "approve", version="1", reason="tried", refused="is champion already; nothing was changed"
    ),
}


def lanes(chosen: Collection[str]) -> list[list[str]]:
    """Return the scenarios of each lane, in order. Those of one lane need each other's workspace, and no other's.

    The pull request of a fork and the guide have workspaces of their own; the two lanes take about as long.
    """
    alone = (GUIDE, FORK)
    both = ([name for name in alone if name in chosen], [name for name in SCENARIOS if name in chosen and name != FORK])
    return [lane for lane in both if lane]


def guide_steps(text: str, given: Collection[str]) -> list[str]:
    """Return a script for each fence without a language in a Markdown guide, as if all were typed into one shell.

    The exports of the variables `given` are left out.

    Raises: WorkflowError when the guide does not export one of them.
    """
    left_out = re.compile(rf"^export ({'|'.join(given)})=.*\n", re.MULTILINE)
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    typed = [fence for language, fence in fences if not language]
    if missing := set(given) - {name for fence in typed for name in left_out.findall(fence)}:
        raise WorkflowError(f"the guide does not export {', '.join(sorted(missing))}")
    steps: list[str] = []
    state: list[str] = []
    for fence in typed:
        lines = left_out.sub("", fence).splitlines()
        steps.append("\n".join([*state, *lines]))
        state += [line for line in lines if line.startswith(("export ", "source "))]
    return steps


def guide_catalogs(text: str) -> list[str]:
    """Return the names of the catalogs that a guide's SQL creates. Raises WorkflowError when it creates none."""
    if not (found := re.findall(r"^CREATE CATALOG IF NOT EXISTS (\w+);$", text, re.MULTILINE)):
        raise WorkflowError("the guide creates no catalog")
    return found


def run_guide(runner: Runner) -> None:
    """Run the commands of docs/databricks.md as the steps of a job. Raises WorkflowError when one fails."""
    say(runner.label, f"== {GUIDE}")
    env = {"DATABRICKS_HOST": "${{ vars.DATABRICKS_HOST }}", "DATABRICKS_TOKEN": runner.token}
    guide = (runner.clone / "docs" / "databricks.md").read_text("utf-8")
    first, *rest = guide_steps(guide, env)
    for catalog in guide_catalogs(guide):
        runner.make_catalog(_GUIDES_WORKSPACE, catalog)
    steps = [{"uses": "actions/checkout"}, *({"run": command} for command in (first, SYNTHETIC_FILE, *rest))]
    job = {"environment": _GUIDES_WORKSPACE, "permissions": {}, "env": env, "steps": steps}
    runner.job(job, Scenario("docs/databricks.md", environments=(_GUIDES_WORKSPACE,)))


@contextmanager
def clean_clones(count: int, venv: Path | None) -> Iterator[list[Path]]:
    """Yield so many clones of HEAD, with `venv` as their Python environment and dbx's own beside it.

    Each is called `clone` and has a new folder of its own. `venv` is as before afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="workflows-") as folder:
        clones = [Path(folder) / str(number) / "clone" for number in range(count)]
        for clone in clones:
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
            if venv is not None:
                (clone / ".venv").symlink_to(venv.resolve())
                dbx = ROOT / ".venv-dbx"
                if dbx.exists():
                    (clone / dbx.name).symlink_to(dbx)
        try:
            if venv is not None:
                # Once for all clones, which are of one commit: `make` has nothing to do for them afterwards, and
                # does not take the package away while another lane's program starts.
                subprocess.run(
                    ["make", "-s", "setup", "dbx-environment"], cwd=clones[0], check=True, stdout=subprocess.DEVNULL
                )
            yield clones
        finally:
            if venv is not None:
                # `make setup` installed a clone into it.
                install = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", str(ROOT)]
                quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
                subprocess.run([venv / "bin" / "python", *install], check=True, env=quiet)


@contextmanager
def new_workspace(root: Path) -> Iterator[tuple[int, str]]:
    """Keep a new local_workspace up, in a process of its own because MLflow's server has one store for each process.

    Yields its port and its token. Raises WorkflowError when it does not start.
    """
    command = [sys.executable, "-m", "local_workspace", "--root", str(root), "--port", "0", "serve"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            started = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if started is None:
                raise WorkflowError("local_workspace does not start; see: python -m local_workspace serve")
            yield int(started[1]), (root / "token").read_text(encoding="utf-8").strip()
        finally:
            process.terminate()


def run_lanes(chosen: Sequence[Sequence[str]], venv: Path | None, already: Collection[str]) -> None:
    """Run the scenarios of each lane one after the other, and the lanes at the same time.

    Raises: WorkflowError of the first lane that has one, when every lane has ended.
    """

    def run_lane(names: Sequence[str], clone: Path) -> None:
        done = set(already)
        with new_workspace(clone.parent / "workspace") as (port, token):
            for name in names:
                runner = Runner(clone, port, token, done, f"{name}: " if len(chosen) > 1 else "")
                try:
                    if name == GUIDE:
                        run_guide(runner)
                    else:
                        runner.run(name, SCENARIOS[name])
                except WorkflowError as error:
                    raise WorkflowError(f"{name}: {error}") from None

    with clean_clones(len(chosen), venv) as clones, ThreadPoolExecutor(len(clones)) as pool:
        running = [pool.submit(run_lane, *lane) for lane in zip(chosen, clones, strict=True)]
    for lane in running:
        lane.result()


def main() -> None:
    """Run the scenarios that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*SCENARIOS, GUIDE]
    parser.add_argument("scenario", nargs="*", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--venv", type=Path, help="an environment that `make setup` made for this commit, to save time")
    parser.add_argument(
        "--already", action="append", default=[], metavar="COMMAND", choices=ONCE,
        help=f"a step that has run on this commit and need not run again: {', '.join(ONCE)}",
    )  # fmt: skip
    arguments = parser.parse_args()
    chosen = arguments.scenario or known
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"no scenario {', '.join(unknown)}; known: {', '.join(known)}")
    if subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, check=True).stdout:
        print("note: uncommitted changes are not part of the clean clone", file=sys.stderr)
    try:
        run_lanes(lanes(chosen), arguments.venv, arguments.already)
    except WorkflowError as error:
        sys.exit(f"error: {error}")
    print("every workflow ran through")


if __name__ == "__main__":
    main()
