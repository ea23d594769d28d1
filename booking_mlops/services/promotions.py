"""The promotion history, and keeping the registry in step with it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from typing import TYPE_CHECKING

from booking_mlops.core.bookings.tables import PROMOTIONS
from booking_mlops.core.model.promotion import Decision, GateResult, remedy
from booking_mlops.errors import NoChampion
from booking_mlops.io.machine import git_commit
from booking_mlops.io.registry import Version
from booking_mlops.session import Session

if TYPE_CHECKING:
    from pyspark.sql import Row

log = logging.getLogger(__name__)

PROMOTED, WAITING, APPROVED, ROLLED_BACK = "promoted", "waiting", "approved", "rolled_back"
REJECTED = "rejected"


class PromotionHistory:
    """The append-only table `promotions` of an environment.

    A decision is written here first and carried out in the registry afterwards. When a process dies between the two,
    the next `repair` carries it out.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def rows(self, limit: int | None = None) -> list[Row]:
        """Return the decisions about the environment's model, newest first."""
        tables = self._session.tables
        if not tables.exists(PROMOTIONS.name):
            return []
        table = tables.read(PROMOTIONS.name).where(f"model_name = '{self._session.env.model_name}'")
        ordered = table.orderBy("decided_at", "challenger_version", ascending=False)
        return list((ordered.limit(limit) if limit else ordered).collect())

    def repair(self) -> bool:
        """Make the registry's champion the one of the last decision; return whether it was another one.

        A version that the registry has lost is left alone.
        """
        last = next(iter(self.rows(limit=1)), None)
        if last is None or last["champion_after"] is None:
            return False
        registry = self._session.registry
        champion = registry.champion()
        decided = int(last["champion_after"])
        if champion is not None and champion.number == decided:
            return False
        if decided not in {version.number for version in registry.versions()}:
            # Such as a lake whose database of MLflow was removed: nothing can bring the version back.
            log.warning("the last decision made version %d champion, and the registry does not have it", decided)
            return False
        log.warning(
            "the registry's champion is %s, the last decision says version %d: making version %d champion",
            f"version {champion.number}" if champion else "not set",
            decided,
            decided,
        )
        registry.make_champion(decided)
        return True

    def record(
        self, challenger: Version, champion: Version | None, after: int | None, decision: Decision, metrics: str
    ) -> None:
        """Append a training's decision. `after` is the version that is champion from now on, `metrics` is JSON."""
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

    def waiting(self) -> int | None:
        """Return the newest version that waits for approval; None when a champion was made after it, or none waits.

        Whoever does not want a version deletes it from the registry.
        """
        decided = ((row["decision"], int(row["challenger_version"])) for row in self.rows())
        since = itertools.takewhile(lambda one: one[0] not in (PROMOTED, APPROVED, ROLLED_BACK), decided)
        waiting = [number for decision, number in since if decision == WAITING]
        there = {version.number for version in self._session.registry.versions()} if waiting else set()
        return next((number for number in waiting if number in there), None)

    def record_approval(self, waiting: Row, champion: int | None, reason: str) -> None:
        """Append the approval of the version whose decision `waiting` is; `champion` is the one it replaces."""
        number = int(waiting["challenger_version"])
        self._append(
            decision_id=f"{waiting['decision_id']}-approved",
            challenger=number,
            champion=champion,
            after=number,
            decision=APPROVED,
            reason=reason,
            metrics=waiting["metrics"],
            gates=waiting["gates"],
        )

    def record_rollback(self, to: int, champion: int | None, reason: str) -> None:
        """Append a rollback from version `champion` to version `to`."""
        self._append(
            decision_id=f"{self._session.env.model_name}-rollback-{self._session.clock().isoformat()}",
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
        session = self._session
        session.tables.ensure(PROMOTIONS)
        row = {
            "decision_id": decision_id,
            "decided_at": session.clock(),
            "principal": session.principal,
            "git_commit": git_commit(),
            "model_name": session.env.model_name,
            "challenger_version": challenger,
            "champion_version": champion,
            "champion_after": after,
            "decision": decision,
            "reason": reason,
            "metrics": metrics,
            "gates": gates,
        }
        session.tables.append_new(PROMOTIONS.name, [row], PROMOTIONS.key[0])


def approval_command(version: int) -> str:
    """Return what to type to approve a version that waits."""
    return f'booking-mlops model approve {version} --reason "…"'


def require_champion(session: Session) -> Version:
    """Return the champion.

    Raises: NoChampion, which says what refused the last candidate, by how much, and what can be done; or that it waits.
    """
    champion = session.registry.champion()
    if champion is not None:
        return champion
    history = PromotionHistory(session)
    if (waiting := history.waiting()) is not None:
        raise NoChampion(
            f"version {waiting} of {session.env.model_name} waits for approval, and no other can score: "
            + approval_command(waiting)
        )
    decisions = history.rows()
    if not decisions or decisions[0]["decision"] != REJECTED:
        return session.registry.require_champion()
    last = decisions[0]
    refusals = [gate for gate in (GateResult(**one) for one in json.loads(last["gates"])) if not gate.passed]
    which = "the only candidate" if len(decisions) == 1 else f"the last of {len(decisions)} candidates"
    raise NoChampion(
        f"version {last['challenger_version']} of {session.env.model_name}, {which}, was refused by "
        f"{'a gate' if len(refusals) == 1 else f'{len(refusals)} gates'}, so no model can score: "
        + ". ".join(f"{gate.name}: {gate.reason}: {remedy(gate.name)}" for gate in refusals)
    )
