"""Run the integration test of a pull request without touching anybody else's tables.

    python -m devtools.pull_request isolate 12        give this checkout names of the pull request's own
    python -m devtools.pull_request token             get a Databricks token, when the pull request may have one
    python -m devtools.pull_request on-workspace CMD  run a command against the pull request's workspace
    python -m devtools.pull_request remove 12         remove from the workspace what was deployed under these names

The workspace is the one at $DATABRICKS_HOST, unless there is none or the pull request comes from a fork
($HEAD_REPOSITORY is not $GITHUB_REPOSITORY): a fork gets no credentials and runs on this machine's local_workspace.
The names are a schema, a model, an experiment and a job. Without them, two pull requests, or one and a merge, would
write to the same tables of staging.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CATALOG = "staging"
JOB_LINE = '{% set integration_test = "staging-integration-test" %}'
WITHOUT = "without DATABRICKS_HOST, or from a fork, a pull request runs on this machine's local_workspace"


def schema(number: int) -> str:
    """Return the name of the pull request's schema."""
    return f"booking_pull_request_{number}"


def experiment(number: int) -> str:
    """Return the path of the pull request's experiment."""
    return f"/Shared/booking_mlops/staging/pull-request-{number}"


def job(number: int) -> str:
    """Return the name of the pull request's job."""
    return f"pull-request-{number}-integration-test"


def has_credentials(environ: Mapping[str, str]) -> bool:
    """Say whether commands go to the workspace at DATABRICKS_HOST; outside of a pull request it need only be set."""
    repository = environ.get("GITHUB_REPOSITORY")
    return bool(environ.get("DATABRICKS_HOST")) and environ.get("HEAD_REPOSITORY", repository) == repository


def isolate(number: int) -> None:
    """Write the pull request's names into deployment.yml and conf/envs/staging.yml of this checkout.

    The comments of staging.yml are lost: this is for a checkout that is thrown away.

    Raises: SystemExit when deployment.yml does not name the job exactly once, as it does not after a first call.
    """
    deployment, env = ROOT / "deployment.yml", ROOT / "conf" / "envs" / "staging.yml"
    text = deployment.read_text(encoding="utf-8")
    if text.count(JOB_LINE) != 1:
        sys.exit(f"error: {deployment}: '{JOB_LINE}' is there {text.count(JOB_LINE)} times, not once")
    content = yaml.safe_load(env.read_text(encoding="utf-8"))
    model = content["model_name"].rpartition(".")[2]
    content |= {
        "schema": schema(number),
        "model_name": f"{CATALOG}.{schema(number)}.{model}",
        "experiment": experiment(number),
    }
    env.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    deployment.write_text(
        text.replace(JOB_LINE, JOB_LINE.replace("staging-integration-test", job(number))), encoding="utf-8"
    )


def token() -> None:
    """Get a token and hand it to the steps that follow, or say that the local workspace is used."""
    if not has_credentials(os.environ):
        print(f"no credentials: {WITHOUT}")
        return
    from devtools import databricks_token

    databricks_token.main()


def on_workspace(command: list[str]) -> None:
    """Replace this process by the command, with the programs of this Python environment first on the PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if not has_credentials(os.environ):
        local = [sys.executable, "-m", "local_workspace", "exec", "--env", "staging", "--"]
        command = [*local, *command]
    os.execvpe(command[0], command, {**os.environ, "PATH": path})  # noqa: S606 (no shell is needed)


def remove(number: int) -> None:
    """Delete the job, the schema with its tables and models, and the experiment, each if it exists."""
    if not has_credentials(os.environ):
        print(f"nothing to remove: {WITHOUT}")
        return
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.errors import NotFound
    from mlflow import MlflowClient

    client = WorkspaceClient()
    for found in client.jobs.list(name=job(number)):
        client.jobs.delete(found.job_id)
        print(f"removed job {job(number)}")
    try:
        client.schemas.delete(f"{CATALOG}.{schema(number)}", force=True)
        print(f"removed schema {CATALOG}.{schema(number)}")
    except NotFound:
        print(f"no schema {CATALOG}.{schema(number)}")
    runs = MlflowClient("databricks")
    known = runs.get_experiment_by_name(experiment(number))
    if known is not None and known.lifecycle_stage == "active":
        runs.delete_experiment(known.experiment_id)
        print(f"removed experiment {experiment(number)}")


def main() -> None:
    """Run the action that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("isolate", "remove"):
        actions.add_parser(action).add_argument("number", type=int, help="the pull request's number")
    actions.add_parser("token")
    actions.add_parser("on-workspace").add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    match arguments.action:
        case "isolate":
            isolate(arguments.number)
        case "remove":
            remove(arguments.number)
        case "token":
            token()
        case _:
            on_workspace(arguments.command)


if __name__ == "__main__":
    main()
