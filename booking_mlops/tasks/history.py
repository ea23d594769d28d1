"""The promotion history, and keeping the registry in step with it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from booking_mlops.core.bookings.schema import PROMOTIONS
from booking_mlops.core.model.promotion import Decision
from booking_mlops.io.machine import git_commit
from booking_mlops.io.registry import Version
from booking_mlops.tasks.base import Task, principal

if TYPE_CHECKING:
    from pyspark.sql import Row


ROLLED_BACK = "rolled_back"


class PromotionHistory:
    """The append-only `promotions` table of a task's environment.

    A decision is written here first and carried out in the registry after. When a process dies
    between the two, `repair` carries it out.
    """

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task

    def rows(self, limit: int | None = None) -> list[Row]:
        """Decisions about the model, newest first."""
        if not self._task.lake.exists(PROMOTIONS.name):
            return []
        table = self._task.lake.read(PROMOTIONS.name).where(f"model_name = '{self._task.env.model_name}'")
        ordered = table.orderBy("decided_at", "challenger_version", ascending=False)
        return list((ordered.limit(limit) if limit else ordered).collect())

    def repair(self) -> bool:
        """Make the registry agree with the last decision; true when it did not."""
        last = next(iter(self.rows(limit=1)), None)
        if last is None or last["champion_after"] is None:
            return False
        registry = self._task.registry
        champion = registry.champion()
        wanted = int(last["champion_after"])
        if champion is not None and champion.number == wanted:
            return False
        self._task.log.warning(
            "the registry's champion is %s, the last decision says version %d: following the decision",
            f"version {champion.number}" if champion else "not set",
            wanted,
        )
        registry.make_champion(wanted)
        return True

    def record(
        self, challenger: Version, champion: Version | None, after: int | None, decision: Decision, metrics: str
    ) -> None:
        """Append a training's decision."""
        self._append(
            decision_id=f"{challenger.name}-{challenger.number}-{challenger.run_id}",
            challenger=challenger.number,
            champion=champion.number if champion else None,
            after=after,
            decision=decision.outcome,
            reason=decision.reason,
            metrics=metrics,
            gates=json.dumps([dataclasses.asdict(gate) for gate in decision.gates]),
        )

    def record_rollback(self, to: int, champion: int | None, reason: str) -> None:
        """Append a rollback."""
        self._append(
            decision_id=f"{self._task.env.model_name}-rollback-{self._task.clock().isoformat()}",
            challenger=to,
            champion=champion,
            after=to,
            decision=ROLLED_BACK,
            reason=reason,
            metrics="{}",
            gates="[]",
        )

    def _append(
        self,
        *,
        decision_id: str,
        challenger: int,
        champion: int | None,
        after: int | None,
        decision: str,
        reason: str,
        metrics: str,
        gates: str,
    ) -> None:
        self._task.ensure_table(PROMOTIONS)
        row = {
            "decision_id": decision_id,
            "decided_at": self._task.clock(),
            "principal": principal(),
            "git_commit": git_commit(),
            "model_name": self._task.env.model_name,
            "challenger_version": challenger,
            "champion_version": champion,
            "champion_after": after,
            "decision": decision,
            "reason": reason,
            "metrics": metrics,
            "gates": gates,
        }
        self._task.lake.append_new(PROMOTIONS.name, [row], PROMOTIONS.key[0])
