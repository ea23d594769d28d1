"""What a process works with, made once and handed to the task and the services."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING

from booking_mlops.config.environment import EnvConfig
from booking_mlops.io.machine import Machine, this_machine
from booking_mlops.io.registry import Registry
from booking_mlops.io.spark import register_tables, spark_session
from booking_mlops.io.tables import Tables
from booking_mlops.io.workspace import Workspace, in_workspace

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(timezone.utc)


class Session:
    """An environment with its clock, Spark, tables, registry and workspace; each is made on first use.

    `spark` is a session that is running already. Otherwise one is started, set up for `input_bytes()` of input, and
    Java archives the classes it loads when `archive_classes`. Tests give `clock` and `environ`.
    """

    def __init__(
        self,
        env: EnvConfig,
        *,
        clock: Clock = utc_now,
        environ: Mapping[str, str] | None = None,
        spark: SparkSession | None = None,
        input_bytes: Callable[[], int] | None = None,
        archive_classes: bool = False,
    ) -> None:
        self.env = env
        self.clock = clock
        self._environ = os.environ if environ is None else environ
        self.machine: Machine = this_machine(self._environ)
        self._given_spark = spark
        self._input_bytes = input_bytes or self.machine.table_bytes
        self._archive_classes = archive_classes

    @cached_property
    def as_of(self) -> date:
        """The day the data stand for: the environment's, else the clock's in UTC; it stays the same past midnight."""
        return self.env.as_of or self.clock().astimezone(timezone.utc).date()

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session.

        Raises: RuntimeSetupError when Spark can't be started.
        """
        if self._given_spark is not None:
            return self._given_spark
        session = spark_session(
            self.machine,
            self.env.spark_conf,
            self._environ,
            self._input_bytes,
            archive_classes=self._archive_classes,
        )
        register_tables(session, self.machine, self._database)
        return session

    @cached_property
    def tables(self) -> Tables:
        """The environment's tables."""
        # A laptop's catalog has no keys, whatever its name.
        primary_keys = self.env.in_unity_catalog and self.machine.on_cluster
        return Tables(self.spark, self._database, primary_keys=primary_keys, as_of=self.as_of)

    @property
    def _database(self) -> str:
        return self.machine.database(self.env.catalog, self.env.schema)

    @cached_property
    def registry(self) -> Registry:
        """The environment's experiment and registered model."""
        return Registry(
            self.machine,
            model_name=self.env.model_name,
            experiment=self.env.experiment,
            tracking_uri=self.env.tracking_uri,
            registry_uri=self.env.registry_uri,
            environ=self._environ,
        )

    @cached_property
    def workspace(self) -> Workspace | None:
        """The Databricks workspace; None where there is none to talk to."""
        return Workspace() if in_workspace(self._environ) else None

    @property
    def principal(self) -> str:
        """Who runs this process: BOOKING_PRINCIPAL when the operator sets it, else the account's name."""
        try:
            return self._environ.get("BOOKING_PRINCIPAL") or getpass.getuser()
        except (KeyError, OSError):
            return "unknown"
