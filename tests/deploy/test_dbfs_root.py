"""A workspace whose DBFS root is disabled: `serve --dbfs-root off`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.conftest import Server

VOLUME = "/Volumes/dev/default/libs"
DISABLED = "Public DBFS root is disabled. Access is denied on path: "


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("modern") / "root", "--dbfs-root", "off")
    server.root.mkdir()
    server.start()
    server.api("dev", "POST", "unity-catalog/volumes", catalog_name="dev", schema_name="default", name="libs",
               volume_type="MANAGED")  # fmt: skip
    wheel = server.tiny_wheel()
    assert server.upload("dev", "PUT", f"/api/2.0/fs/files{VOLUME}/{wheel.name}", wheel) == 204
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/2.0/dbfs/put", {"path": "/FileStore/x", "contents": ""}),
        ("POST", "/api/2.0/dbfs/create", {"path": "dbfs:/FileStore/x"}),
        ("GET", "/api/2.0/dbfs/list?path=/FileStore/x", {}),
        ("POST", "/dbfs/FileStore/x", {"a": 1}),
        ("POST", "/api/2.0/mlflow/experiments/create", {"name": "e", "artifact_location": "dbfs:/FileStore/x"}),
    ],
)
def test_nothing_is_on_dbfs_root(modern: Server, method: str, path: str, body: dict[str, Any]) -> None:
    answer = modern.call("dev", method, path, **body)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert answer.json()["message"].startswith(DISABLED)
    assert answer.json()["message"].endswith("/FileStore/x")


def test_an_experiment_may_be_in_a_volume(modern: Server) -> None:
    body = {"name": "in a volume", "artifact_location": f"dbfs:{VOLUME}/artifacts"}
    made = modern.call("dev", "POST", "/api/2.0/mlflow/experiments/create", **body)
    assert made.status_code == 200, made.text
    assert modern.call("dev", "POST", "/api/2.0/mlflow/experiments/create", name="anywhere").status_code == 200


@pytest.mark.parametrize(
    ("whl", "cluster", "message"),
    [
        ("dbfs:/libs/tiny.whl", {"spark_version": "15.4.x-scala2.12"}, "not supported on DBR 15 or above."),
        (
            "dbfs:/libs/tiny.whl",
            {
                "spark_version": "18.x-cpu-ml-scala2.13",
                "spark_conf": {"spark.databricks.driver.dbfsLibraryInstallationAllowed": "true"},
            },
            "library tiny.whl is not on DBFS",
        ),
        ("dbfs:/libs/tiny.whl", {"spark_version": "14.3.x-scala2.12"}, "library tiny.whl is not on DBFS"),
        (f"{VOLUME}/tiny-0.1-py3-none-any.whl", {"spark_version": "15.4.x-scala2.12"}, None),
        (f"dbfs:{VOLUME}/tiny-0.1-py3-none-any.whl", {"spark_version": "15.4.x-scala2.12"}, None),
    ],
    ids=["15.4", "18 with the setting", "14.3", "volume", "volume with a prefix"],
)
def test_runtimes_from_15_on_install_libraries_from_volumes(
    modern: Server, whl: str, cluster: dict[str, Any], message: str | None
) -> None:
    shared = {"job_cluster_key": "shared", "new_cluster": None, "libraries": [{"whl": whl}]}
    clusters = [{"job_cluster_key": "shared", "new_cluster": cluster}]
    job = modern.tiny_job("dev", {"task_key": "t", **shared}, job_name=str(cluster) + whl, job_clusters=clusters)
    (task,) = modern.wait("dev", modern.run("dev", job))["tasks"]
    if message is None:
        assert task["state"]["result_state"] == "SUCCESS", modern.log("dev", task["run_id"])
    else:
        assert (task["state"]["result_state"], message in task["state"]["state_message"]) == ("FAILED", True)


def test_by_default_there_is_a_root(server: Server) -> None:
    assert server.call("dev", "POST", "/api/2.0/dbfs/put", path="/FileStore/y", contents="").status_code == 200
