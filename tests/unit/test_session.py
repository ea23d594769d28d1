from __future__ import annotations

import dataclasses
import getpass
from datetime import date, datetime, timedelta, timezone
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


def test_the_day_the_data_stand_for_is_the_environments_or_the_clocks_in_utc() -> None:
    evening = datetime(2026, 3, 1, 22, tzinfo=timezone(timedelta(hours=-5)))
    session = Session(ENV, clock=lambda: evening)
    assert session.as_of == date(2026, 3, 2)
    asked = dataclasses.replace(ENV, as_of=date(2018, 10, 1))
    assert Session(asked, clock=lambda: evening).as_of == date(2018, 10, 1)
    times = iter([evening, evening + timedelta(days=1)])
    running = Session(ENV, clock=lambda: next(times))
    assert (running.as_of, running.as_of) == (date(2026, 3, 2), date(2026, 3, 2))
