from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from booking_mlops.errors import RegistryError
from booking_mlops.io.machine import Machine
from booking_mlops.io.mlflow_database import move_addresses, open_database
from booking_mlops.io.registry import Registry


@pytest.mark.parametrize(
    ("uri", "aliases", "stages"),
    [
        ("databricks", False, True),
        ("databricks-uc", True, False),
        ("databricks-uc://p", True, False),
        ("http://host", True, True),
        ("sqlite:///x.db", True, True),
    ],
)
def test_each_registry_has_its_dialect(uri: str, aliases: bool, stages: bool) -> None:
    registry = Registry(Machine(True, Path()), model_name="m", experiment="e", registry_uri=uri, environ={})
    assert (registry.has_aliases, registry.has_stages) == (aliases, stages)


def test_the_operators_variables_win_over_the_file_and_the_file_over_the_machine() -> None:
    def uris(environ: dict[str, str], **given: str) -> tuple[str, str]:
        made = Registry(Machine(False, Path("/lake")), model_name="m", experiment="e", environ=environ, **given)
        return made.tracking_uri, made.registry_uri

    assert uris({}) == ("sqlite:////lake/mlflow.db",) * 2
    assert uris({}, tracking_uri="http://a", registry_uri="databricks-uc") == ("http://a", "databricks-uc")
    operator = {"MLFLOW_TRACKING_URI": "http://b", "MLFLOW_REGISTRY_URI": "http://c"}
    assert uris(operator, tracking_uri="http://a", registry_uri="http://d") == ("http://b", "http://c")
    on_cluster = Registry(Machine(True, Path()), model_name="m", experiment="e", environ={})
    assert on_cluster.tracking_uri == "databricks"


def registry(lake: Path) -> Registry:
    return Registry(Machine(False, lake), model_name="m", experiment="e", environ={})


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_lake_works_wherever_it_is_and_leaves_alone_what_it_was_copied_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, lake, copy = (tmp_path / name for name in ("here", "My Läke 100%", "copy"))
    here.mkdir()
    # The program may be started where nothing can be written.
    here.chmod(0o555)
    monkeypatch.chdir(here)
    # Two at once on an empty lake: MLflow's own creation of its tables fails when there are two.
    with ThreadPoolExecutor(2) as pool:
        experiments = [one.result() for one in [pool.submit(registry(lake).experiment_id) for _ in range(2)]]
    assert len(set(experiments)) == 1
    with registry(lake).run("first", {}) as run_id:
        registry(lake).log_files({"a.txt": "said before"})
    assert (Path.cwd(), list(here.iterdir())) == (here, [])

    shutil.copytree(lake, copy)
    before = files(lake)
    copied = registry(copy)
    assert copied.read_file(run_id, "a.txt") == "said before"
    with copied.run("second", {}) as later:
        copied.log_files({"a.txt": "said later"})
    assert files(lake) == before
    (moved := tmp_path / "moved").mkdir()
    copy.rename(moved / "lake")
    shutil.rmtree(lake)
    found = registry(moved / "lake")
    assert [found.read_file(one, "a.txt") for one in (run_id, later)] == ["said before", "said later"]
    assert Path(found.address(later, "a.txt")).is_relative_to(moved)
    with closing(sqlite3.connect(moved / "lake" / "mlflow.db")) as opened:
        assert str(tmp_path) + "/moved" in "\n".join(opened.iterdump())
        assert "/copy" not in "\n".join(opened.iterdump())


def test_a_database_that_is_upgraded_is_kept_as_it_was(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    database = tmp_path / "mlflow.db"

    def upgrade(to: str) -> None:
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.execute("UPDATE alembic_version SET version_num = ?", (to,))

    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("CREATE TABLE alembic_version (version_num TEXT)")
        opened.execute("INSERT INTO alembic_version VALUES ('old')")
    uri = f"sqlite:///{database}"
    open_database(uri, lambda: upgrade("old"))
    assert sorted(tmp_path.iterdir()) == [database]
    open_database(uri, lambda: upgrade("new"))
    kept = tmp_path / f"mlflow.db.before-mlflow-{mlflow.__version__}"
    assert sorted(tmp_path.iterdir()) == [database, kept]
    with closing(sqlite3.connect(kept)) as opened:
        assert opened.execute("SELECT version_num FROM alembic_version").fetchone() == ("old",)


def test_a_database_that_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database, but longer than a database's header is" * 5, encoding="utf-8")
    with pytest.raises(RegistryError, match=r"tracking server sqlite:.*file is not a database$"):
        registry(tmp_path).experiment_id()


def test_experiments_of_other_people_keep_their_files_where_they_are(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    mine = ("file:///a/lake/mlartifacts", "/a/lake/mlruns/7")
    theirs = ("s3://bucket/mlartifacts", "/home/me/mlruns/0", "file:///a/lakeside/x", "file:///nas/team/mlartifacts")
    (tmp_path / "mlartifacts" / "run1").mkdir(parents=True)
    with closing(sqlite3.connect(database)) as opened, opened:
        opened.execute("CREATE TABLE experiments (artifact_location TEXT)")
        opened.executemany("INSERT INTO experiments VALUES (?)", [(one,) for one in (*mine, *theirs)])
        opened.execute("CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT, start_time INT)")
        runs = [("run1", f"{mine[0]}/run1/artifacts"), ("run2", f"{theirs[-1]}/run2/artifacts")]
        opened.executemany("INSERT INTO runs VALUES (?, ?, 0)", runs)
    move_addresses(database, tmp_path / "mlartifacts")
    with closing(sqlite3.connect(database)) as opened:
        found = [one for (one,) in opened.execute("SELECT artifact_location FROM experiments")]
    assert found == [(tmp_path / "mlartifacts").as_uri(), str(tmp_path / "mlruns/7"), *theirs]
