"""`python -m devtools.approve`: an approval by hand is a run of the workspace's own job."""

from __future__ import annotations

import pytest

from devtools import approve
from tests.deploy.conftest import Server


@pytest.fixture
def dev(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment("dev").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GITHUB_ACTOR", "reviewer")


@pytest.mark.usefixtures("dev")
def test_the_job_gets_version_and_reason_and_its_failure_is_the_programs(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for environment, does in (("night", "ok"), ("day", "fail")):
        wheel = {"package_name": "tiny", "entry_point": does, "parameters": ["--env-file", "x"]}
        task = {"task_key": "model-approve", "python_wheel_task": wheel}
        server.tiny_job("dev", task, job_name=f"{environment}-model-approve")
    assert approve.approve("night", 3, "seen: it's better")
    given = ["--env-file", "x", "--set", "version=3", "--set", 'reason="seen: it\'s better (reviewer)"']
    assert f"arguments: {given}" in capsys.readouterr().out
    assert not approve.approve("day", 3, "because")
    assert "on purpose" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="the workspace has no job none-model-approve; deploy it first"):
        approve.approve("none", 3, "because")
