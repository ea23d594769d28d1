"""`model-rollback`: give champion back to an earlier version, and record it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_mlops.config.checks import require
from booking_mlops.config.environment import EnvConfig
from booking_mlops.errors import ConfigError, NoChampion
from booking_mlops.services.promotions import (
    APPROVED,
    PROMOTED,
    ROLLED_BACK,
    PromotionHistory,
    approval_command,
    require_champion,
)
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import Row


@dataclass(frozen=True)
class ModelRollbackConfig:
    """`model-rollback`: the version that becomes champion again (default: the previous champion), and why."""

    env: EnvConfig
    to: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        require(bool(self.reason.strip()), "reason: a rollback needs one; it goes into the promotions table")


@dataclass(frozen=True)
class ModelRollbackResult(Result):
    """Champion before and after."""

    model_name: str
    before: int
    after: int
    reason: str

    def summary(self) -> list[tuple[str, str]]:
        """Return the champion before and after, and what comes next."""
        return [
            ("champion", f"{self.model_name} version {self.after}, was version {self.before}"),
            ("reason", self.reason),
            ("next", "model-inference-batch scores with it"),
        ]


class ModelRollback(Task[ModelRollbackConfig, ModelRollbackResult]):
    """Makes the champion before the present one champion again: the one it replaced when it was promoted.

    A rollback run twice for the same reason goes back once: what a killed run left undone is finished, anything else is
    refused.
    """

    name = "model-rollback"
    config_type = ModelRollbackConfig
    help = "Give champion back to the previous version, or to the one named with to."

    def run(self) -> ModelRollbackResult:
        """Record the rollback and carry it out in the registry.

        Raises: NoChampion when there is none to go back from or to; ConfigError when there is nothing to do;
        RegistryError when the version does not exist or can't be loaded.
        """
        registry, model_name = self.session.registry, self.session.env.model_name
        history = PromotionHistory(self.session)
        finished = history.repair()
        before = require_champion(self.session).number
        rows = history.rows()
        last = rows[0] if rows else None
        if last is not None and last["decision"] == ROLLED_BACK and self.config.to in (None, before):
            if finished:
                return ModelRollbackResult(model_name, int(last["champion_version"]), before, last["reason"])
            if last["reason"] == self.config.reason:
                raise ConfigError(
                    f"version {before} of {model_name} is champion already, since a rollback for the same "
                    f"reason on {last['decided_at']:%Y-%m-%d %H:%M}; nothing was changed. "
                    "To go further back give another reason"
                )
        after = self.config.to if self.config.to is not None else self._previous(rows, before)
        if after == before:
            raise ConfigError(f"version {after} of {model_name} is champion already; nothing was changed")
        if history.waiting() == after:
            raise ConfigError(
                f"version {after} of {model_name} never was champion: it waits for approval; nothing was changed. "
                + approval_command(after)
            )
        # Nothing is written before the version is known to exist and to load.
        registry.load(registry.version(after))
        history.record_rollback(after, before, self.config.reason)
        registry.make_champion(after)
        self.log.info("champion is version %d again: %s", after, self.config.reason)
        return ModelRollbackResult(model_name, before, after, self.config.reason)

    def _previous(self, rows: Sequence[Row], champion: int) -> int:
        """Return the version that was champion before `champion`, by the decisions, newest first."""
        ways = [row for row in rows if row["champion_after"] == champion and row["champion_version"] != champion]
        # A rollback also names a champion before it: the version that was rolled back, which is not the way back.
        ways = [row for row in ways if row["decision"] in (PROMOTED, APPROVED)] or ways
        if not ways or ways[0]["champion_version"] is None:
            raise NoChampion(
                f"{self.session.env.model_name} had no champion before version {champion}; name a version with --to"
            )
        return int(ways[0]["champion_version"])
