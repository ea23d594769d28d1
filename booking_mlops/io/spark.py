"""The Spark session: the cluster's own on Databricks, a local one with Delta elsewhere."""

from __future__ import annotations

import importlib
import locale
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from booking_mlops.errors import RuntimeSetupError
from booking_mlops.io.class_archive import archive_options
from booking_mlops.io.delta_libraries import delta_jars
from booking_mlops.io.java import find_java
from booking_mlops.io.machine import Machine, shared_folder
from booking_mlops.table import sql_literal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

log = logging.getLogger(__name__)


SMALL = 16 * 2**20
"""Bytes of input below which a laptop's Spark is set up for queries that are over soon.

Measured on two cores: with 180,000 bookings in a CSV of 16 MB the whole run takes as long either way.
"""

# A query over a small table runs once and ends before generated code and a second look at the plan pay off. What each
# of these settings saves is in docs/adr/0010-start-up.md.
SHORT_QUERIES = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",
    # Otherwise one core reads a file of up to 4 MB alone.
    "spark.sql.files.openCostInBytes": "0",
    # Spark 4 notes the line of Python that made each expression, and imports IPython to find it.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
_FIRST_COMPILER_ONLY = ("-XX:TieredStopAtLevel=1",)
# In another language upper and lower case, and the signs in numbers, are not those that Spark's and Delta's names have.
_ENGLISH = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")


def _local_conf(machine: Machine, jars: list[Path], small: bool, archive: Sequence[str]) -> dict[str, str]:
    cores = os.cpu_count() or 2
    log4j = Path(__file__).with_name("log4j2.properties")
    java = (
        f"-Dlog4j2.configurationFile={log4j.as_uri()}",
        # Java knows neither TMPDIR nor Python's other choices.
        f'"-Djava.io.tmpdir={_temporary_folder()}"',
        *_ENGLISH,
        "-XX:+UseParallelGC",
        # Room for Spark's and Delta's classes: Java collects all its garbage four times on the way there otherwise.
        "-XX:MetaspaceSize=256m",
        # The code that is compiled for one query after another: with the first compiler only, Java would keep 48 MB.
        "-XX:ReservedCodeCacheSize=512m",
        # Java would write its figures to /tmp, and break off when there is no room.
        "-XX:-UsePerfData",
        *(_FIRST_COMPILER_ONLY if small else ()),
        *archive,
    )
    return {
        **(SHORT_QUERIES if small else {}),
        "spark.master": "local[*]",
        "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
        "spark.driver.extraJavaOptions": " ".join(java),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "3g",
        "spark.pyspark.python": sys.executable,
        "spark.pyspark.driver.python": sys.executable,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(machine.warehouse),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # A laptop's tables are small: Spark's 200 and Delta's 50 partitions cost more than the work.
        "spark.sql.shuffle.partitions": str(cores),
        "spark.databricks.delta.snapshotPartitions": "2",
        # Spark 4 takes lower() from a library that is slow to load.
        "spark.sql.icu.caseMappings.enabled": "false",
        # VACUUM lists files with this many tasks; Spark's default is 10,000.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": str(2 * cores),
    }


# The same on a laptop and on a cluster: results must not depend on where they are computed.
_SESSION_CONF = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Batches for Python are limited by their rows. Spark 4.1 limits their bytes too, and adds them up after every row:
    # a third of the time in which model-inference-batch scores a million.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(2**31 - 1),
    # Java never compiles a method whose code has more bytes than this: setup-data takes twice as long to judge a line.
    # Above it Spark generates several methods in place of one.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # What is kept is read twice, and to compress it takes longer than that.
    "spark.sql.inMemoryColumnarStorage.compressed": "false",
    # Rows of a day go to one partition: a file is kept open for each of a few, which spares sorting by partition.
    "spark.sql.maxConcurrentOutputFileWriters": "4",
}


def spark_session(
    machine: Machine,
    conf: Mapping[str, str | bool | int | float],
    environ: Mapping[str, str],
    input_bytes: Callable[[], int],
    *,
    archive_classes: bool = False,
) -> SparkSession:
    """Return the Spark session: the cluster's, or on a laptop the running one or a new one.

    SPARK_REMOTE is the address of a Spark Connect server to use on a laptop; tables are where that server keeps them.
    `conf` are further Spark settings; on a cluster only those that can change at run time take effect.
    `input_bytes` is asked when a local session has to be started: below `SMALL` it is set up for that. With
    `archive_classes` Java, when the program ends, keeps what it has loaded, unless that was done before.

    Raises: RuntimeSetupError when Java or the Delta libraries are missing, or Spark does not start.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise RuntimeSetupError("pyspark is not installed: pip install 'booking_mlops[local]'") from None

    # Imported before any thread: pyspark 3 needs it, and setuptools' stand-in for it can deadlock with a thread that
    # imports something else.
    with suppress(ImportError):
        importlib.import_module("distutils.version")
    _raise_errors_only()
    settings = {key: _as_text(value) for key, value in conf.items()}
    if machine.on_cluster or environ.get("SPARK_REMOTE"):
        session = SparkSession.builder.getOrCreate()
    else:
        running = SparkSession.getActiveSession()
        session = running or _start_local(machine, settings, environ, input_bytes() < SMALL, archive_classes)
    for key, value in {**_SESSION_CONF, **settings}.items():
        set_at_run_time(session, key, value)
    return session


def _raise_errors_only() -> None:
    """Keep Spark 4 from printing a page for an error of a query that it also raises."""
    # Spark 3 has no such module.
    with suppress(ImportError):
        from pyspark.logger import PySparkLogger

        for name in ("DataFrameQueryContextLogger", "SQLQueryContextLogger"):
            # By its own function: Spark could not use a logger of another class.
            PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)


def set_at_run_time(session: SparkSession, key: str, value: str | None) -> None:
    """Set a Spark setting of a session that is running, or unset it, when it is one that can be set then.

    Serverless compute allows only a few, and none of the others changes what is computed.
    """
    from pyspark.errors import PySparkException

    try:
        if session.conf.isModifiable(key):
            if value is None:
                session.conf.unset(key)
            else:
                session.conf.set(key, value)
    except PySparkException as error:
        log.debug("%s can't be set here: %s", key, error)


def is_connect(session: SparkSession) -> bool:
    """Say whether the session is Spark Connect's: standard access mode, serverless compute, Databricks Connect."""
    return type(session).__module__.startswith("pyspark.sql.connect")


@contextmanager
def computed_once(rows: DataFrame, machine: Machine) -> Iterator[DataFrame]:
    """Yield the rows, kept while the block lasts, so that each use does not compute them again.

    Serverless compute keeps nothing: there each use does.
    """
    if machine.serverless:
        yield rows
        return
    rows.persist()
    try:
        yield rows
    finally:
        rows.unpersist()


def _as_text(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _start_local(
    machine: Machine, conf: Mapping[str, str], environ: Mapping[str, str], small: bool, archive_classes: bool
) -> SparkSession:
    import pyspark
    from pyspark.sql import SparkSession

    java = find_java(environ, pyspark.__version__, shared_folder())
    if java.home:
        os.environ["JAVA_HOME"] = java.home
    # Spark's launcher looks at the variable before the setting, and would take the system's Python.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    if sys.platform == "linux" and names_differ(sys.getfilesystemencoding(), locale.nl_langinfo(locale.CODESET)):
        # Java names files by it; it could not open what has an umlaut in its name.
        os.environ["LC_ALL"] = "C.UTF-8"
    builder = SparkSession.builder.appName("booking_mlops")
    jars = delta_jars(environ, java)
    libraries = (pyspark.__version__, *(jar.name for jar in jars))
    archive = archive_options(shared_folder(), java, libraries, write=archive_classes, now=time.time())
    machine.warehouse.mkdir(parents=True, exist_ok=True)

    def start(options: Sequence[str]) -> SparkSession:
        for key, value in {**_local_conf(machine, jars, small, options), **conf}.items():
            builder.config(key, value)
        return builder.getOrCreate()

    try:
        try:
            return start(archive)
        except Exception:
            if not archive:
                raise
            # With settings of the user's own Java may refuse to make one.
            return start(())
    except Exception as error:
        raise RuntimeSetupError(f"Spark does not start: {str(error).splitlines()[0]}") from error


def names_differ(python: str, system: str) -> bool:
    """Say whether Python encodes names of files as UTF-8, which it does in the locale C too, and Java would not."""
    return python == "utf-8" and system.upper().replace("-", "") != "UTF8"


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError as error:
        raise RuntimeSetupError(f"{error.strerror}; make room, or set TMPDIR to a folder with room") from None


def register_tables(session: SparkSession, machine: Machine, database: str) -> None:
    """Make the tables that this machine has of a database, `spark_catalog.schema`, known to the session.

    Spark's in-memory catalog forgets tables between processes; the Delta logs on disk do not. A cluster's catalog does
    not either, and nothing is done there.
    """
    if machine.on_cluster:
        return
    schema = database.rpartition(".")[2]
    known: set[str] | None = None
    # Spark names folders in lower case.
    for log_folder in sorted((machine.warehouse / f"{schema.lower()}.db").glob("*/_delta_log")):
        table = log_folder.parent
        if not any(log_folder.glob("*.json")) and not any(log_folder.glob("*.parquet")):
            # A process was killed before its first commit: the table never was.
            log.warning("removing %s: a write that never committed", table)
            shutil.rmtree(table, ignore_errors=True)
            continue
        if known is None:
            session.sql(f"CREATE DATABASE IF NOT EXISTS {database}")
            known = {row["tableName"] for row in session.sql(f"SHOW TABLES IN {database}").collect()}
        if table.name not in known:
            # As a path, not as an address: Spark would take `%20` as it is.
            location = sql_literal(f"file:{table}")
            session.sql(f"CREATE TABLE IF NOT EXISTS {database}.`{table.name}` USING DELTA LOCATION {location}")
