"""What each task can be told. The fields are the configuration: there is no other list of keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from booking_mlops.config.loader import nearest
from booking_mlops.core.bookings.quality import Ranges
from booking_mlops.core.bookings.schema import CSV_COLUMNS, FEATURES
from booking_mlops.core.drift.measures import Levels
from booking_mlops.core.model.metrics import Costs
from booking_mlops.core.model.pipeline import Forest
from booking_mlops.core.model.promotion import ComparisonRule, Gates
from booking_mlops.errors import ConfigError

_IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _check_share(name: str, value: float) -> None:
    _check(0.0 <= value <= 1.0, f"{name}: {value:g} is not a share between 0 and 1")


def _check_ranges(ranges: Ranges) -> None:
    numeric = [column.name for column in CSV_COLUMNS if column.kind in ("whole", "decimal")]
    for name, (low, high) in ranges.items():
        _check(name in numeric, f"ranges: {name} is not a numeric column; {nearest(name, numeric)}")
        _check(low <= high, f"ranges.{name}: {low:g} is above {high:g}")


@dataclass(frozen=True)
class Sampling:
    """Share of the bookings an environment works on, drawn by a stable hash that keeps twins together."""

    fraction: float = 1.0

    def __post_init__(self) -> None:
        _check(0.0 < self.fraction <= 1.0, f"sampling.fraction: {self.fraction:g} is not above 0 and up to 1")


@dataclass(frozen=True)
class Grant:
    """Who may do what: one of the three names, and the level as Databricks spells it."""

    permission_level: Literal["CAN_READ", "CAN_EDIT", "CAN_MANAGE"]
    user_name: str | None = None
    group_name: str | None = None
    service_principal_name: str | None = None

    def __post_init__(self) -> None:
        named = [name for name in (self.user_name, self.group_name, self.service_principal_name) if name]
        _check(len(named) == 1, "permissions: a grant names one of user_name, group_name and service_principal_name")


@dataclass(frozen=True)
class Permissions:
    """Who may see and manage the schema, the experiment and the registered model of an environment."""

    schema: tuple[Grant, ...] = ()
    experiment: tuple[Grant, ...] = ()
    model: tuple[Grant, ...] = ()


@dataclass(frozen=True)
class EnvConfig:
    """One environment: where its tables, its experiment and its model live.

    `tracking_uri` and `registry_uri` are MLflow's; left out, they are what the machine the task runs
    on says: the workspace on Databricks, a SQLite file in the lake on a laptop.
    """

    environment: str
    catalog: str
    schema: str
    experiment: str
    model_name: str
    tracking_uri: str | None = None
    registry_uri: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    permissions: Permissions = field(default_factory=Permissions)
    spark_conf: Mapping[str, str | bool | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("catalog", "schema"):
            value = getattr(self, name)
            _check(bool(_IDENTIFIER.match(value)), f"{name}: '{value}' is not a name of letters, digits and _")


@dataclass(frozen=True)
class SetupDataConfig:
    """`setup-data`: which file to ingest, and how dirty it may be.

    `source_csv` is a path, `dbfs:/…` or `/Volumes/…`. When it is left out or nothing is there, `make_data`
    allows making `made_rows` bookings (seed `made_seed`) in its place. `ranges` are inclusive.
    """

    env: EnvConfig
    source_csv: str | None = None
    make_data: bool = False
    made_rows: int = 20_000
    made_seed: int = 7
    max_rejected_share: float = 0.02
    ranges: Ranges = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.made_rows > 0, f"made_rows: {self.made_rows} is not above 0")
        _check_share("max_rejected_share", self.max_rejected_share)
        _check_ranges(self.ranges)


@dataclass(frozen=True)
class FeatureTableCreationConfig:
    """`feature-table-creation`: needs only the environment."""

    env: EnvConfig


@dataclass(frozen=True)
class Holdout:
    """The frozen holdout: share of the distinct feature keys, and the salt of the hash that picks them."""

    fraction: float = 0.2
    salt: int = 1

    def __post_init__(self) -> None:
        _check(0.0 < self.fraction < 1.0, f"holdout.fraction: {self.fraction:g} is not between 0 and 1")


@dataclass(frozen=True)
class ModelTrainConfig:
    """`model-train`: the inputs, the forest, the holdout, the gates and the comparison."""

    env: EnvConfig
    features: tuple[str, ...] = FEATURES
    forest: Forest = field(default_factory=Forest)
    holdout: Holdout = field(default_factory=Holdout)
    max_training_rows: int = 1_000_000
    max_reference_rows: int = 100_000
    gates: Gates = field(default_factory=Gates)
    comparison: ComparisonRule = field(default_factory=ComparisonRule)
    costs: Costs = field(default_factory=Costs)
    ranges: Ranges = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(len(self.features) > 0, "features: at least one is needed")
        _check(len(set(self.features)) == len(self.features), "features: a name is listed twice")
        _check(self.max_training_rows > 0, f"max_training_rows: {self.max_training_rows} is not above 0")
        _check(self.max_reference_rows > 0, f"max_reference_rows: {self.max_reference_rows} is not above 0")
        _check(min(self.costs.missed_cancellation, self.costs.needless_intervention) > 0, "costs: must be above 0")
        _check(0.5 < self.comparison.confidence < 1.0, "comparison.confidence: must be above .5 and below 1")
        _check(self.comparison.bootstrap_samples >= 100, "comparison.bootstrap_samples: must be at least 100")
        _check_ranges(self.ranges)


@dataclass(frozen=True)
class Drift:
    """How the newest bookings are compared with those the champion was trained on.

    The newest `window_days` by arrival are compared with the same days of earlier years, `season_margin_days`
    wider on both sides. Fewer than `min_rows` on a side are not judged; more than `max_rows` are sampled.
    `levels` are of the population stability index of a feature, cut into `bins`.
    """

    window_days: int = 28
    season_margin_days: int = 14
    min_rows: int = 500
    max_rows: int = 20_000
    bins: int = 10
    levels: Levels = field(default_factory=lambda: Levels(warn=0.1, alarm=0.25))

    def __post_init__(self) -> None:
        _check(1 <= self.window_days <= 182, f"drift.window_days: {self.window_days} is not between 1 and 182")
        _check(self.season_margin_days >= 0, f"drift.season_margin_days: {self.season_margin_days} is below 0")
        _check(0 < self.min_rows <= self.max_rows, "drift.min_rows: must be above 0 and not above max_rows")
        _check(self.bins >= 2, f"drift.bins: {self.bins} is below 2")
        _check_levels("drift.levels", self.levels)


def _check_levels(name: str, levels: Levels) -> None:
    _check(0 < levels.warn <= levels.alarm, f"{name}: warn must be above 0 and not above alarm")


@dataclass(frozen=True)
class DriftPolicy(Drift):
    """`Drift`, and what an alarm before scoring means: `warn` scores anyway, `hold` does not, `skip` never looks."""

    max_rows: int = 5_000
    policy: Literal["warn", "hold", "skip"] = "warn"


@dataclass(frozen=True)
class ModelInferenceBatchConfig:
    """`model-inference-batch`: `batch_rows` bounds how many rows a worker holds at once."""

    env: EnvConfig
    batch_rows: int = 250_000
    drift: DriftPolicy = field(default_factory=DriftPolicy)

    def __post_init__(self) -> None:
        _check(self.batch_rows > 0, f"batch_rows: {self.batch_rows} is not above 0")


@dataclass(frozen=True)
class LiveMetrics:
    """The champion against the labels that arrived, on bookings it was not trained on, for the last `weeks`.

    `levels` are of the drop in ROC AUC below the holdout's; weeks with fewer than `min_rows` are not judged.
    """

    weeks: int = 12
    min_rows: int = 50
    levels: Levels = field(default_factory=lambda: Levels(warn=0.03, alarm=0.08))

    def __post_init__(self) -> None:
        _check(self.weeks > 0 and self.min_rows > 1, "live: weeks must be above 0 and min_rows above 1")
        _check_levels("live.levels", self.levels)


@dataclass(frozen=True)
class ModelMonitorConfig:
    """`model-monitor`: what is compared, from where on it is a warning or an alarm, and what an alarm does.

    `classifier` holds the levels of the domain classifier's ROC AUC, `quality` those of the share of bad values.
    An alarm makes the task fail when `fail_on_alarm`, and starts the job `retrain_job` when one is named.
    """

    env: EnvConfig
    drift: Drift = field(default_factory=Drift)
    classifier: Levels = field(default_factory=lambda: Levels(warn=0.75, alarm=0.9))
    quality: Levels = field(default_factory=lambda: Levels(warn=0.005, alarm=0.05))
    live: LiveMetrics = field(default_factory=LiveMetrics)
    holdout: Holdout = field(default_factory=Holdout)
    ranges: Ranges = field(default_factory=dict)
    seed: int = 17
    fail_on_alarm: bool = True
    retrain_job: str | None = None

    def __post_init__(self) -> None:
        _check_levels("classifier", self.classifier)
        _check_levels("quality", self.quality)
        _check_ranges(self.ranges)


@dataclass(frozen=True)
class IntegrationTestConfig:
    """`integration-test`: needs only the environment."""

    env: EnvConfig


@dataclass(frozen=True)
class ModelRollbackConfig:
    """`model-rollback`: the version that becomes champion again (default: the previous champion), and why."""

    env: EnvConfig
    to: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        _check(bool(self.reason.strip()), "reason: a rollback needs one; it goes into the promotions table")
