"""The newest Databricks SDK, in an environment of its own, asks what a developer's scripts ask a workspace."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.deploy.conftest import IN_AN_ENVIRONMENT_OF_ITS_OWN, NEWEST, Server
from tests.deploy.test_workspace import PRINCIPAL

pytestmark = [*IN_AN_ENVIRONMENT_OF_ITS_OWN]

PROGRAM = """
import datetime, io, json, sys, time
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError
from databricks.sdk.service import catalog, iam, workspace
job, principal, host = int(sys.argv[1]), sys.argv[2], sys.argv[3]
w, soon, found = WorkspaceClient(), datetime.timedelta(seconds=120), {}
def refused(call):
    try: return f"not refused: {call()}"
    except DatabricksError as error: return error.error_code
found["me"] = w.current_user.me().user_name
found["nobody"] = list(w.service_principals.list(filter='applicationId eq "none"'))
w.schemas.create("newest", "staging")
w.volumes.create("staging", "newest", "files", catalog.VolumeType.MANAGED)
found["lists"] = [[one.name for one in many] for many in (
    w.catalogs.list(), w.volumes.list("staging", "newest"), w.tables.list("staging", "newest"),
    w.registered_models.list(catalog_name="staging", schema_name="newest"))]
path = "/Volumes/staging/newest/files/in/a b.csv"
w.files.upload(path, io.BytesIO(b"a\\n1\\n"), overwrite=True)
found["file"] = [w.files.download(path).contents.read().decode(),
                 [one.path for one in w.files.list_directory_contents("/Volumes/staging/newest/files/in")]]
w.workspace.mkdirs("/Shared/newest")
w.workspace.upload("/Shared/newest/a.txt", io.BytesIO(b"hello"), format=workspace.ImportFormat.AUTO, overwrite=True)
found["workspace"] = [w.workspace.download("/Shared/newest/a.txt").read().decode(),
                      w.workspace.get_status("/Shared/newest/a.txt").object_type.value]
first = w.jobs.run_now(job, idempotency_token="newest").run_id
found["idempotent"] = w.jobs.run_now(job, idempotency_token="newest").run_id == first
while (run := w.jobs.get_run(first)).state.life_cycle_state.value in ("PENDING", "RUNNING", "TERMINATING"):
    time.sleep(0.3)
found["run"] = [run.state.result_state.value, {one.task_key: one.state.result_state.value for one in run.tasks}]
found["output"] = w.jobs.get_run_output(run.tasks[0].run_id).logs
repaired = w.jobs.repair_run_and_wait(first, rerun_all_failed_tasks=True, timeout=soon)
found["repaired"] = [repaired.state.result_state.value, len(w.jobs.get_run(first, include_history=True).repair_history)]
found["only"] = [one.task_key for one in w.jobs.run_now_and_wait(job, only=["works"], timeout=soon).tasks]
users = iam.AccessControlRequest(group_name="users", permission_level=iam.PermissionLevel.CAN_VIEW)
entries = w.permissions.update("jobs", str(job), access_control_list=[users]).access_control_list
found["permissions"] = [one.all_permissions[0].permission_level.value for one in entries if one.group_name == "users"]
found["refused"] = [refused(lambda: list(w.jobs.list(page_token="zzz"))), refused(lambda: w.jobs.export_run(first)),
                    refused(lambda: w.permissions.get("jobs", "424242")), refused(lambda: list(w.dbfs.list("/")))]
by_github = WorkspaceClient(host=host, token="", client_id=principal, auth_type="github-oidc")
found["principal"] = by_github.current_user.me().user_name
print(json.dumps(found))
"""


def test_it_gets_what_a_workspace_of_databricks_answers(server: Server) -> None:
    after = {"depends_on": [{"task_key": "works"}]}
    job = server.tiny_job(
        "staging", {"task_key": "works"}, {"task_key": "again", "does": "second_run", **after}, job_name="newest sdk"
    )
    environment = {
        **server.environment("staging"),
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{server.url}/github/identity?repository=o/r&environment=staging",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": server.token,
    }
    principal = PRINCIPAL[:-1] + "2"
    done = subprocess.run(
        [NEWEST, "-W", "ignore", "-c", PROGRAM, str(job), principal, environment["DATABRICKS_HOST"]],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "arguments: []" in found.pop("output")
    assert found == {
        "me": "developer@workspace.test",
        "nobody": [],
        "lists": [["staging"], ["files"], [], []],
        "file": ["a\n1\n", ["/Volumes/staging/newest/files/in/a b.csv"]],
        "workspace": ["hello", "FILE"],
        "idempotent": True,
        "run": ["FAILED", {"works": "SUCCESS", "again": "FAILED"}],
        "repaired": ["SUCCESS", 2],
        "only": ["works"],
        "permissions": ["CAN_VIEW"],
        "refused": [
            "INVALID_PARAMETER_VALUE", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED",
        ],
        "principal": principal,
    }  # fmt: skip
