"""Files of volumes and of the workspace, and Unity Catalog's lists, as the current SDK sees them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import AlreadyExists, BadRequest, NotFound, ResourceAlreadyExists
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ImportFormat, Language, ObjectType

from tests.conftest import ROOT
from tests.deploy.conftest import Server

Client = Callable[..., WorkspaceClient]


@pytest.fixture
def volume(server: Server, client: Client) -> Iterator[str]:
    """The path of a new volume of dev."""
    dev = client("dev")
    dev.schemas.create("files", "dev")
    dev.volumes.create("dev", "files", "raw", VolumeType.MANAGED)
    yield "/Volumes/dev/files/raw"
    dev.schemas.delete("dev.files", force=True)


class TestVolumes:
    def test_files_go_up_and_come_down(self, client: Client, volume: str, tmp_path: Path) -> None:
        files, content = client("dev").files, os.urandom(300_000)
        files.upload(f"{volume}/in/a b.bin", io.BytesIO(content))
        found = files.get_metadata(f"{volume}/in/a b.bin")
        assert (found.content_length, bool(found.last_modified)) == (300_000, True)
        answer: Any = files.download(f"{volume}/in/a b.bin")
        assert answer.contents.read() == content
        files.download_to(f"{volume}/in/a b.bin", str(tmp_path / "b"), use_parallel=True, parallelism=2)
        assert (tmp_path / "b").read_bytes() == content
        with pytest.raises(AlreadyExists, match="already exists"):
            files.upload(f"{volume}/in/a b.bin", io.BytesIO(b"new"))
        files.upload(f"{volume}/in/a b.bin", io.BytesIO(b"new"), overwrite=True)
        answer = files.download(f"{volume}/in/a b.bin")
        assert answer.contents.read() == b"new"

    def test_directories_are_listed_page_by_page_and_removed_when_empty(self, client: Client, volume: str) -> None:
        files = client("dev").files
        for name in ("c", "a", "b"):
            files.upload(f"{volume}/in/{name}.txt", io.BytesIO(name.encode()))
        files.create_directory(f"{volume}/in/more")
        files.create_directory(f"{volume}/in/more")
        found = list(files.list_directory_contents(f"{volume}/in", page_size=2))
        assert [(one.name, one.is_directory, one.file_size) for one in found] == [
            ("a.txt", False, 1), ("b.txt", False, 1), ("c.txt", False, 1), ("more", True, None),
        ]  # fmt: skip
        assert found[0].path == f"{volume}/in/a.txt"
        with pytest.raises(BadRequest, match="Invalid page token"):
            list(files.list_directory_contents(f"{volume}/in", page_token="zzz"))
        files.get_directory_metadata(f"{volume}/in")
        with pytest.raises(BadRequest, match="not empty"):
            files.delete_directory(f"{volume}/in")
        for one in found[:3]:
            files.delete(str(one.path))
        files.delete_directory(f"{volume}/in/more")
        files.delete_directory(f"{volume}/in")
        with pytest.raises(NotFound):
            files.get_directory_metadata(f"{volume}/in")

    def test_what_is_not_there_says_so(self, client: Client, volume: str) -> None:
        files = client("dev").files
        for look in (files.get_metadata, files.download, files.delete):
            with pytest.raises(NotFound):
                look(f"{volume}/none")
        for ask in (files.get_directory_metadata, files.delete_directory, lambda path: list(
            files.list_directory_contents(path))):  # fmt: skip
            with pytest.raises(NotFound):
                ask(f"{volume}/none")
        with pytest.raises(NotFound, match=r"Volume 'dev\.files\.none' does not exist"):
            files.upload("/Volumes/dev/files/none/x", io.BytesIO(b""))
        with pytest.raises(NotFound, match=r"Schema 'dev\.none' does not exist"):
            files.upload("/Volumes/dev/none/none/x", io.BytesIO(b""))
        for path in ("/tmp/x", "/Volumes/dev/files", f"{volume}/../../../../x"):
            with pytest.raises((BadRequest, NotFound)):
                files.upload(path, io.BytesIO(b""))

    def test_a_task_reads_and_writes_them_as_on_a_cluster(self, server: Server, client: Client, volume: str) -> None:
        files = client("dev").files
        files.upload(f"{volume}/in/a.csv", io.BytesIO(b"a\n1\n2\n"))
        files.upload(f"{volume}/in/b b.csv", io.BytesIO(b"a\n"))
        job = server.tiny_job("dev", {"task_key": "t", "does": "read"}, job_name="reads a volume")
        run = server.wait("dev", server.run("dev", job, python_params=[f"{volume}/in/a.csv"]))
        log = server.log("dev", run["tasks"][0]["run_id"])
        assert run["state"]["result_state"] == "SUCCESS", log
        text = "['a', '1', '2']"
        assert f"argument {text}\n" in log
        assert f"python ['a.csv', 'b b.csv'] True True {text} {text} [1, 2]\n" in log
        assert "spark [2, 2]\n" in log
        assert "pattern ['a.csv', 'b b.csv'] 2 [2]\n" in log
        addresses = [f"file:{volume}/in/a.csv"] * 3 + [f"file:{volume}/in/b%20b.csv"]
        assert f"from {addresses}\n" in log
        assert "_SUCCESS" in {one.name for one in files.list_directory_contents(f"{volume}/out")}

    def test_put_writes_into_a_volume_that_exists(self, server: Server, tmp_path: Path) -> None:
        folder = tmp_path / "root"
        command = [sys.executable, "-m", "local_workspace", "--root", str(folder)]

        def put(path: str) -> subprocess.CompletedProcess[str]:
            full = [*command, "put", __file__, f"dev:{path}"]
            return subprocess.run(full, cwd=ROOT, capture_output=True, text=True, check=False)

        refused = put("/Volumes/dev/default/raw/x")
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "has no such volume; create it" in refused.stderr
        assert "databricks volumes create dev default raw MANAGED" in refused.stderr
        make = (
            "from databricks.sdk import WorkspaceClient; from databricks.sdk.service.catalog import VolumeType; "
            "WorkspaceClient().volumes.create('dev', 'default', 'raw', VolumeType.MANAGED)"
        )
        made = [*command, "exec", "--env", "dev", "--", sys.executable, "-c", make]
        assert subprocess.run(made, cwd=ROOT, capture_output=True, check=False).returncode == 0
        assert put("/Volumes/dev/default/raw/x").returncode == 0
        assert (folder / "workspaces/dev/dbfs/Volumes/dev/default/raw/x").read_bytes() == Path(__file__).read_bytes()


class TestWorkspaceFiles:
    def test_files_and_notebooks_are_imported_listed_and_exported(self, client: Client) -> None:
        workspace = client("dev").workspace
        folder = "/Workspace/Users/developer@workspace.test/project"
        with pytest.raises(NotFound, match="parent folder"):
            workspace.upload(f"{folder}/a.txt", io.BytesIO(b"a"), format=ImportFormat.AUTO)
        workspace.mkdirs(folder)
        workspace.upload(f"{folder}/a.txt", io.BytesIO(b"a"), format=ImportFormat.AUTO)
        notebook = b"# Databricks notebook source\nprint(1)\n"
        workspace.upload(f"{folder}/look.py", io.BytesIO(notebook), format=ImportFormat.AUTO)
        workspace.upload(f"{folder}/more", io.BytesIO(b"SELECT 1"), language=Language.SQL)
        kinds = {str(one.path).rpartition("/")[2]: one.object_type for one in workspace.list(folder)}
        assert kinds == {"a.txt": ObjectType.FILE, "look": ObjectType.NOTEBOOK, "more": ObjectType.NOTEBOOK}
        assert workspace.get_status(f"{folder}/more").language == Language.SQL
        assert workspace.download(f"{folder}/look").read() == notebook
        with pytest.raises(ResourceAlreadyExists, match="already exists"):
            workspace.upload(f"{folder}/a.txt", io.BytesIO(b"b"), format=ImportFormat.AUTO)
        workspace.upload(f"{folder}/a.txt", io.BytesIO(b"b"), format=ImportFormat.AUTO, overwrite=True)
        assert workspace.export(f"{folder}/a.txt").content == "Yg=="
        with pytest.raises(BadRequest, match="is not empty"):
            workspace.delete(folder)
        workspace.delete(folder, recursive=True)
        with pytest.raises(NotFound, match="doesn't exist"):
            workspace.get_status(folder)

    def test_a_task_has_its_wheel_and_its_files_there_as_a_bundle_does(self, server: Server, client: Client) -> None:
        workspace, folder = client("dev").workspace, "/Workspace/Shared/bundle"
        workspace.mkdirs(folder)
        workspace.upload(f"{folder}/conf.yml", io.BytesIO(b"a: 1"), format=ImportFormat.AUTO, overwrite=True)
        wheel = server.tiny_wheel()
        workspace.upload(
            f"{folder}/{wheel.name}", io.BytesIO(wheel.read_bytes()), format=ImportFormat.RAW, overwrite=True
        )
        library = f"{folder}/{wheel.name}"
        shown = {"python_wheel_task": {"package_name": "tiny", "entry_point": "show",
                                       "parameters": [f"{folder}/conf.yml"]}}  # fmt: skip
        environments = [{"environment_key": "e", "spec": {"environment_version": "4", "dependencies": [library]}}]
        serverless = {"task_key": "s", **shown, "environment_key": "e"}
        tasks = [{"task_key": "c", **shown, "libraries": [{"whl": library}]}]
        job = server.tiny_job("dev", *tasks, job_name="of a bundle")
        settings = {"tasks": [*server.api("dev", "GET", f"jobs/get?job_id={job}")["settings"]["tasks"], serverless]}
        server.api("dev", "POST", "jobs/update", job_id=job, new_settings={**settings, "environments": environments})
        run = server.wait("dev", server.run("dev", job))
        assert {task["state"]["result_state"] for task in run["tasks"]} == {"SUCCESS"}
        for task in run["tasks"]:
            assert "file a: 1 a: 1 True" in server.log("dev", task["run_id"])
        for change, message in (
            ({"environment_key": "x"}, "environment x is not defined in field environments"),
            ({"libraries": [{"whl": library}]}, "Libraries field is not supported for serverless task"),
        ):
            tasks = [{**serverless, **change}]
            refused = server.call(
                "dev", "POST", "/api/2.1/jobs/create", name="x", tasks=tasks, environments=environments
            )
            assert (refused.status_code, message in refused.json()["message"]) == (400, True)

    def test_the_cli_imports_files_as_they_are(self, server: Server) -> None:
        path = "/api/2.0/workspace-files/import-file/Workspace/Shared/x.json"
        assert server.call("dev", "POST", path, a=1).status_code == 200
        again = server.call("dev", "POST", path, a=2)
        assert (again.status_code, again.json()["error_code"]) == (409, "ALREADY_EXISTS")
        assert server.call("dev", "POST", f"{path}?overwrite=true", a=2).status_code == 200
        assert server.call("dev", "GET", "/api/2.0/workspace-files/Shared/x.json").json() == {"a": 2}
        outside = server.call("dev", "POST", "/api/2.0/workspace/mkdirs", path="/../../x")
        assert outside.status_code == 400


class TestUnityCatalog:
    def test_objects_are_made_listed_and_removed(self, client: Client) -> None:
        staging = client("staging")
        assert [one.name for one in staging.catalogs.list()] == ["staging"]
        before = {one.name for one in staging.schemas.list("staging")}
        made = staging.schemas.create("lists", "staging", comment="for a test")
        assert (made.full_name, made.owner, made.comment) == (
            "staging.lists", "developer@workspace.test", "for a test",
        )  # fmt: skip
        staging.volumes.create("staging", "lists", "one", VolumeType.MANAGED)
        staging.volumes.create("staging", "lists", "two", VolumeType.MANAGED)
        model = staging.registered_models.create(catalog_name="staging", schema_name="lists", name="m")
        assert model.full_name == "staging.lists.m"
        assert "default" in before
        assert {one.name for one in staging.schemas.list("staging")} == before | {"lists"}
        assert [one.name for one in staging.volumes.list("staging", "lists", max_results=1)] == ["one", "two"]
        assert [one.name for one in staging.registered_models.list(catalog_name="staging", schema_name="lists")] == [
            "m"
        ]
        assert list(staging.model_versions.list("staging.lists.m")) == []
        assert list(staging.tables.list("staging", "lists")) == []
        assert staging.tables.exists("staging.lists.t").table_exists is False
        assert staging.volumes.update("staging.lists.one", comment="first").comment == "first"
        with pytest.raises(BadRequest, match="already exists"):
            staging.schemas.create("lists", "staging")
        with pytest.raises(BadRequest, match="not empty"):
            staging.schemas.delete("staging.lists")
        staging.schemas.delete("staging.lists", force=True)
        for look in (
            lambda: staging.schemas.get("staging.lists"),
            lambda: list(staging.volumes.list("staging", "lists")),
            lambda: staging.registered_models.get("staging.lists.m"),
        ):
            with pytest.raises(NotFound, match=r"Schema 'staging\.lists' does not exist"):
                look()

    @pytest.mark.parametrize(
        ("path", "code"),
        [
            ("catalogs/none", "CATALOG_DOES_NOT_EXIST"),
            ("schemas/none.x", "CATALOG_DOES_NOT_EXIST"),
            ("schemas/dev.none", "SCHEMA_DOES_NOT_EXIST"),
            ("tables/dev.default.none", "TABLE_DOES_NOT_EXIST"),
            ("volumes/dev.default.none", "VOLUME_DOES_NOT_EXIST"),
            ("models/dev.default.none", "RESOURCE_DOES_NOT_EXIST"),
            ("permissions/schema/dev.none", "SCHEMA_DOES_NOT_EXIST"),
            ("permissions/function/dev.default.none", "RESOURCE_DOES_NOT_EXIST"),
        ],
    )
    def test_what_does_not_exist_is_said(self, server: Server, path: str, code: str) -> None:
        answer = server.call("dev", "GET", f"/api/2.1/unity-catalog/{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (404, code)

    def test_privileges_go_to_principals_that_exist(self, server: Server) -> None:
        path = "/api/2.1/unity-catalog/permissions/catalog/dev"
        before = server.call("dev", "GET", path).json().get("privilege_assignments", [])
        granted = server.call("dev", "PATCH", path, changes=[{"principal": "users", "add": ["USE_CATALOG"]}])
        of_users = {"principal": "users", "privileges": ["USE_CATALOG"]}
        others = [one for one in before if one["principal"] != "users"]
        assert granted.json()["privilege_assignments"] == [*others, of_users]
        refused = server.call("dev", "PATCH", path, changes=[{"principal": "nobody", "add": ["USE_CATALOG"]}])
        assert (refused.status_code, refused.json()["error_code"]) == (404, "PRINCIPAL_DOES_NOT_EXIST")
        assert server.call("dev", "GET", path).json() == granted.json()
