from __future__ import annotations

import getpass
from pathlib import Path

import pytest
import yaml

from booking_mlops.config.environment import EnvConfig
from booking_mlops.config.loader import build
from booking_mlops.session import Session

ENV = build(EnvConfig, yaml.safe_load("{environment: e, catalog: c, schema: s, experiment: x, model_name: m}"), "here")


def test_the_principal_is_the_operators_word_or_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Session(ENV, environ={"BOOKING_PRINCIPAL": "sp-prod"}).principal == "sp-prod"
    for name in ("LOGNAME", "USER"):
        monkeypatch.setenv(name, "someone")
    session = Session(ENV, environ={})
    assert session.principal == "someone"
    monkeypatch.setattr(getpass, "getuser", lambda: (_ for _ in ()).throw(KeyError("no account")))
    assert session.principal == "unknown"


def test_there_is_a_workspace_on_a_cluster_or_where_a_host_is_given(tmp_path: Path) -> None:
    assert Session(ENV, environ={"BOOKING_LAKE": str(tmp_path)}).workspace is None
    for variable in ("DATABRICKS_HOST", "DATABRICKS_RUNTIME_VERSION"):
        assert Session(ENV, environ={variable: "x"}).workspace is not None
