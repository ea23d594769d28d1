"""`booking-mlops deployment prepare` and `upload`, against a workspace that has nothing but its catalogs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli
from tests.deploy.conftest import Server

PRINCIPAL = "00000000-0000-0000-0000-000000000003"


@pytest.fixture
def prod(server: Server, booking_mlops: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, signed in to prod."""
    for name, value in server.environment("prod").items():
        monkeypatch.setenv(name, value)
    return booking_mlops


def test_what_is_missing_is_made_and_the_jobs_identity_gets_the_least_rights(server: Server, prod: Cli) -> None:
    first = prod("deployment", "prepare", "--env", "prod")
    assert first.code == 0, first.err
    for name in ("schema prod.booking", "schema prod.deployments", "volume prod.booking.files",
                 "volume prod.deployments.booking_mlops"):  # fmt: skip
        assert f"{name}: " in first.out
    again = prod("deployment", "prepare", "--env", "prod")
    assert (again.code, again.out.count("is there")) == (0, 4)
    path = "/api/2.1/unity-catalog/permissions"
    for what, privileges in {
        "schema/prod.booking": ["CREATE_MODEL", "CREATE_TABLE", "MANAGE", "USE_SCHEMA"],
        "schema/prod.deployments": ["USE_SCHEMA"],
        "volume/prod.booking.files": ["READ_VOLUME"],
        "volume/prod.deployments.booking_mlops": ["READ_VOLUME"],
    }.items():
        found = server.call("prod", "GET", f"{path}/{what}").json()["privilege_assignments"]
        assert {"principal": PRINCIPAL, "privileges": privileges} in found


def test_the_bookings_go_where_they_are_read(server: Server, prod: Cli, tmp_path: Path) -> None:
    assert prod("deployment", "prepare", "--env", "prod").code == 0
    file = tmp_path / "mine.csv"
    for content in ("a\n1\n", "a\n2\n"):
        file.write_text(content, encoding="utf-8")
        done = prod("deployment", "upload", "--env", "prod", str(file))
        assert done.code == 0, done.err
        assert done.out == f"{file} is /Volumes/prod/booking/files/Booking.csv in prod\n"
    path = "/api/2.0/fs/files/Volumes/prod/booking/files/Booking.csv"
    assert server.call("prod", "GET", path).text == content
    assert server.call("prod", "DELETE", path).status_code == 204


def test_a_mistake_is_one_line(prod: Cli, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf", symlinks=True)
    env = tmp_path / "conf" / "envs" / "prod.yml"
    text = env.read_text(encoding="utf-8")
    conf = ("--conf-dir", str(tmp_path / "conf"), "--env", "prod")
    missing = prod("deployment", "upload", "--env", "prod", str(tmp_path / "none.csv"))
    unknown = prod("deployment", "prepare", "--env", "qa")
    env.write_text(text.replace("catalog: prod", "catalog: none"), encoding="utf-8")
    no_catalog = prod("deployment", "prepare", *conf)
    env.write_text(text.replace("/Volumes/prod/booking/files", "dbfs:/FileStore"), encoding="utf-8")
    no_volume = prod("deployment", "upload", *conf, __file__)
    for outcome, message in (
        (missing, "none.csv: can't be read: No such file"),
        (unknown, "has no environment qa; it has dev, staging, prod"),
        (no_catalog, "Catalog 'none' does not exist"),
        (no_volume, "source_csv is dbfs:/FileStore/Booking.csv, which is not in a volume"),
    ):
        assert (outcome.code, outcome.err.count("\n")) == (1, 1)
        assert message in outcome.err
