"""`model-rollback`: give champion back to an earlier version, and record it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_mlops.config.model import ModelRollbackConfig
from booking_mlops.errors import ConfigError, NoChampion
from booking_mlops.tasks.base import Result, Task
from booking_mlops.tasks.history import ROLLED_BACK, PromotionHistory

if TYPE_CHECKING:
    from pyspark.sql import Row


@dataclass(frozen=True)
class ModelRollbackResult(Result):
    """Champion before and after."""

    model_name: str
    before: int
    after: int
    reason: str

    def summary(self) -> list[tuple[str, str]]:
        """See `Result`."""
        return [
            ("champion", f"{self.model_name} version {self.after}, was version {self.before}"),
            ("reason", self.reason),
            ("next", "model-inference-batch scores with it"),
        ]


class ModelRollback(Task[ModelRollbackConfig, ModelRollbackResult]):
    """Follows the history: the previous champion is the one that this one replaced when it was promoted.

    Run again for the same reason it goes no further back: what a killed run left is finished, anything else is refused.
    """

    name = "model-rollback"
    config_type = ModelRollbackConfig
    help = "Give champion back to the previous version, or to the one named with to."

    def run(self) -> ModelRollbackResult:
        """See `Task`."""
        history = PromotionHistory(self)
        finished = history.repair()
        before = self.registry.require_champion().number
        rows = history.rows()
        last = rows[0] if rows else None
        if last is not None and last["decision"] == ROLLED_BACK and self.config.to in (None, before):
            if finished:
                return ModelRollbackResult(self.env.model_name, int(last["champion_version"]), before, last["reason"])
            if last["reason"] == self.config.reason:
                raise ConfigError(
                    f"version {before} of {self.env.model_name} is champion already, since a rollback for the same "
                    f"reason on {last['decided_at']:%Y-%m-%d %H:%M}; nothing was changed. "
                    "To go further back give another reason"
                )
        after = self.config.to if self.config.to is not None else self._previous(rows, before)
        if after == before:
            raise ConfigError(f"version {after} of {self.env.model_name} is champion already; nothing was changed")
        # Before anything is written: it must exist, and its model must load.
        self.registry.load(self.registry.version(after))
        history.record_rollback(after, before, self.config.reason)
        self.registry.make_champion(after)
        self.log.info("champion is version %d again: %s", after, self.config.reason)
        return ModelRollbackResult(self.env.model_name, before, after, self.config.reason)

    def _previous(self, rows: Sequence[Row], champion: int) -> int:
        ways = [row for row in rows if row["champion_after"] == champion and row["champion_version"] != champion]
        # A version that a rollback brought back was followed by the one that was left: that is not the way back.
        ways = [row for row in ways if row["decision"] == "promoted"] or ways
        if not ways or ways[0]["champion_version"] is None:
            raise NoChampion(
                f"{self.env.model_name} had no champion before version {champion}; name a version with --to"
            )
        return int(ways[0]["champion_version"])
