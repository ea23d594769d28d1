"""What an environment needs in Unity Catalog, read from its configuration."""

from __future__ import annotations

from devtools.preparation import Needs, identity, needs

PROJECT = {"properties": {"artifact_location": "dbfs:/Volumes/c/code/wheels/dbx"}}


def test_schemas_and_volumes_are_those_that_the_configuration_names() -> None:
    file = "/Volumes/c/data/files/Booking.csv"
    environment = {"catalog": "c", "schema": "data", "tasks": {"setup_data": {"source_csv": f"dbfs:{file}"}}}
    assert needs(environment, PROJECT) == Needs(
        "c.data", ("c.data", "c.code"), ("c.code.wheels", "c.data.files"), f"dbfs:{file}"
    )
    environment["catalog"] = "hive_metastore"
    assert needs(environment, PROJECT).schemas == ("c.code", "c.data")


def test_dbfs_root_and_the_workspace_registry_need_nothing() -> None:
    environment = {"catalog": "hive_metastore", "schema": "data"}
    old = {"properties": {"artifact_location": "dbfs:/Shared/dbx"}}
    assert needs(environment, old) == Needs(None, (), (), None)


def test_the_identity_is_the_one_that_the_jobs_run_as() -> None:
    named = {"run_as": {"service_principal_name": "service-principal://mine"}}
    assert identity([{}, named]) == "mine"
    assert identity([{}]) is None
