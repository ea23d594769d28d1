from __future__ import annotations

from pathlib import Path

import pytest

from booking_mlops.io.machine import Machine
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


def test_the_registry_leaves_nothing_where_the_program_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Registry(Machine(False, tmp_path / "lake"), model_name="m", experiment="e", environ={}).experiment_id()
    assert list(here.iterdir()) == []
