"""Paths of Databricks' files, in every spelling that dbx and people use."""

from __future__ import annotations

from pathlib import Path

import pytest

from booking_mlops.config.paths import databricks_path, python_path

IN_VOLUME = "/Volumes/prod/booking/files/a b.csv"


@pytest.mark.parametrize(
    ("given", "python", "databricks"),
    [
        (IN_VOLUME, IN_VOLUME, IN_VOLUME),
        (f"dbfs:{IN_VOLUME}", IN_VOLUME, IN_VOLUME),
        (f"dbfs://{IN_VOLUME}", IN_VOLUME, IN_VOLUME),
        (f"/dbfs{IN_VOLUME}", IN_VOLUME, IN_VOLUME),
        ("dbfs:/FileStore/a.csv", "/dbfs/FileStore/a.csv", "dbfs:/FileStore/a.csv"),
        ("/dbfs/FileStore/a.csv", "/dbfs/FileStore/a.csv", "dbfs:/FileStore/a.csv"),
        ("/FileStore/a.csv", "/FileStore/a.csv", "/FileStore/a.csv"),
        ("s3://bucket/Volumes/a.csv", "s3:/bucket/Volumes/a.csv", "s3://bucket/Volumes/a.csv"),
        ("/tmp/dbfs/Volumes/a.csv", "/tmp/dbfs/Volumes/a.csv", "/tmp/dbfs/Volumes/a.csv"),
    ],
)
def test_each_spelling_leads_to_the_file(given: str, python: str, databricks: str) -> None:
    assert (python_path(given), databricks_path(given)) == (Path(python), databricks)
