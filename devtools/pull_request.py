"""Give a pull request its own schema, model, experiment and job on the staging workspace, or remove them again.

    python devtools/pull_request.py isolate 12      edits conf/envs/staging.yml and deployment.yml of this checkout
    python devtools/pull_request.py remove 12       drops what `isolate` had deployed; safe when nothing was

Without it, two pull requests, or one and a merge, would write to the same tables.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CATALOG = "staging"


def schema(number: int) -> str:
    """The pull request's schema."""
    return f"booking_pull_request_{number}"


def experiment(number: int) -> str:
    """Its experiment."""
    return f"/Shared/booking_mlops/staging/pull-request-{number}"


def job(number: int) -> str:
    """Its job."""
    return f"pull-request-{number}-integration-test"


def replace_once(path: Path, before: str, after: str) -> None:
    """Change one line; exits when the file has not exactly one such line."""
    lines = path.read_text(encoding="utf-8").split("\n")
    found = [index for index, line in enumerate(lines) if line.strip() == before]
    if len(found) != 1:
        sys.exit(f"error: {path}: '{before}' is there {len(found)} times, not once")
    lines[found[0]] = lines[found[0]].replace(before, after)
    path.write_text("\n".join(lines), encoding="utf-8")


def isolate(number: int) -> None:
    """Change the names in this checkout."""
    env, deployment = ROOT / "conf" / "envs" / "staging.yml", ROOT / "deployment.yml"
    model = "booking_cancellation"
    replace_once(env, "schema: booking", f"schema: {schema(number)}")
    replace_once(env, f"model_name: {CATALOG}.booking.{model}", f"model_name: {CATALOG}.{schema(number)}.{model}")
    replace_once(env, "experiment: /Shared/booking_mlops/staging/training", f"experiment: {experiment(number)}")
    replace_once(deployment, "name: staging-integration-test", f"name: {job(number)}")


def remove(number: int) -> None:
    """Delete the job, the schema with its tables and models, and the experiment."""
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
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["isolate", "remove"])
    parser.add_argument("number", type=int, help="the pull request's number")
    arguments = parser.parse_args()
    {"isolate": isolate, "remove": remove}[arguments.action](arguments.number)


if __name__ == "__main__":
    main()
