"""What an environment's YAML says: where its tables, experiment and model live, and who may use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from booking_mlops.config.checks import require, require_identifier
from booking_mlops.core.bookings.quality import DEFAULT_RANGES, Ranges
from booking_mlops.core.bookings.schema import CSV_COLUMNS
from booking_mlops.core.names import nearest

NUMERIC_COLUMNS = tuple(column.name for column in CSV_COLUMNS if column.kind in ("whole", "decimal"))
_LOCAL_CATALOGS = ("spark_catalog", "hive_metastore")


@dataclass(frozen=True)
class Sampling:
    """Share of the bookings an environment works on, drawn by a stable hash that keeps twins together."""

    fraction: float = 1.0

    def __post_init__(self) -> None:
        require(0.0 < self.fraction <= 1.0, f"sampling.fraction: {self.fraction:g} is not above 0 and up to 1")


@dataclass(frozen=True)
class Grant:
    """A permission: one user, group or service principal, and the level as Databricks spells it."""

    permission_level: Literal["CAN_READ", "CAN_EDIT", "CAN_MANAGE"]
    user_name: str | None = None
    group_name: str | None = None
    service_principal_name: str | None = None

    def __post_init__(self) -> None:
        named = [name for name in (self.user_name, self.group_name, self.service_principal_name) if name]
        require(len(named) == 1, "permissions: a grant names one of user_name, group_name and service_principal_name")


@dataclass(frozen=True)
class Permissions:
    """Who may see and manage an environment's schema, experiment and registered model.

    `all` applies to the three of them; the other lists add to it.
    """

    all: tuple[Grant, ...] = ()
    schema: tuple[Grant, ...] = ()
    experiment: tuple[Grant, ...] = ()
    model: tuple[Grant, ...] = ()

    @property
    def on_schema(self) -> tuple[Grant, ...]:
        """Every grant on the schema."""
        return self.all + self.schema

    @property
    def on_experiment(self) -> tuple[Grant, ...]:
        """Every grant on the experiment."""
        return self.all + self.experiment

    @property
    def on_model(self) -> tuple[Grant, ...]:
        """Every grant on the registered model."""
        return self.all + self.model


@dataclass(frozen=True)
class EnvConfig:
    """One environment.

    `tracking_uri` and `registry_uri` are MLflow's; left out, the machine decides: the workspace on Databricks, a SQLite
    file in the lake on a laptop. `ranges` are inclusive bounds of numeric columns, on top of `DEFAULT_RANGES`: a value
    outside is a bad row of a file, and is counted in training and monitoring. `as_of` is the day the data stand for:
    what lies after it is not known yet. Left out, it is the clock's day in UTC.
    """

    environment: str
    catalog: str
    schema: str
    experiment: str
    model_name: str
    tracking_uri: str | None = None
    registry_uri: str | None = None
    as_of: date | None = None
    sampling: Sampling = field(default_factory=Sampling)
    ranges: Ranges = field(default_factory=dict)
    permissions: Permissions = field(default_factory=Permissions)
    spark_conf: Mapping[str, str | bool | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_identifier("catalog", self.catalog)
        require_identifier("schema", self.schema)
        for name, (low, high) in self.ranges.items():
            known = name in NUMERIC_COLUMNS
            require(known, f"ranges: {name} is not a numeric column; {nearest(name, NUMERIC_COLUMNS)}")
            require(low <= high, f"ranges.{name}: {low:g} is above {high:g}")

    @property
    def all_ranges(self) -> Ranges:
        """The bounds of every column that has some."""
        return {**DEFAULT_RANGES, **self.ranges}

    @property
    def in_unity_catalog(self) -> bool:
        """Whether the catalog is one of Unity Catalog's."""
        return self.catalog not in _LOCAL_CATALOGS
