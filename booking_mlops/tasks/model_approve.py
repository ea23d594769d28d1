"""`model-approve`: make a challenger that waits for approval champion, and record who said so and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from booking_mlops.config.environment import EnvConfig
from booking_mlops.config.recorded import read_recorded
from booking_mlops.core.model.promotion import ComparisonRule
from booking_mlops.errors import ApprovalRefused
from booking_mlops.io.registry import Version
from booking_mlops.services.promotions import APPROVED, WAITING, PromotionHistory
from booking_mlops.services.training_data import TrainingRecipe
from booking_mlops.services.versions import CONFIG_FILE, compare
from booking_mlops.tasks.task import Result, Task

if TYPE_CHECKING:
    from pyspark.sql import Row


@dataclass(frozen=True)
class ModelApproveConfig:
    """`model-approve`: the version to approve, and why; both are needed when it runs."""

    env: EnvConfig
    version: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class ModelApproveResult(Result):
    """Champion before and after."""

    model_name: str
    before: int | None
    after: int
    reason: str

    def summary(self) -> list[tuple[str, str]]:
        """Return the champion before and after, and what comes next."""
        before = "there was none" if self.before is None else f"was version {self.before}"
        return [
            ("champion", f"{self.model_name} version {self.after}, {before}"),
            ("reason", self.reason),
            ("next", "model-inference-batch scores with it"),
        ]


@dataclass(frozen=True)
class _RecordedRule:
    """The part of a training's configuration that says when a challenger is better."""

    comparison: ComparisonRule = field(default_factory=ComparisonRule)


class ModelApprove(Task[ModelApproveConfig, ModelApproveResult]):
    """Makes a version champion that a training with `promotion.approval: required` left waiting.

    When another version has become champion since, the two are compared first, as a training would. What a killed run
    left undone is finished by the next.
    """

    name = "model-approve"
    config_type = ModelApproveConfig
    help = "Make a challenger that waits for approval champion."

    def run(self) -> ModelApproveResult:
        """Record the approval and carry it out in the registry.

        Raises: ApprovalRefused when the version does not wait, no reason is given, or it is no better than the present
        champion; RegistryError when the version does not exist or can't be loaded.
        """
        registry, model_name = self.session.registry, self.session.env.model_name
        history = PromotionHistory(self.session)
        finished = history.repair()
        rows = history.rows()
        number = self._number(rows)
        last = next((row for row in rows if row["challenger_version"] == number), None)
        champion = registry.champion()
        if champion is not None and champion.number == number:
            # A run that was killed after it had carried its approval out may be started again.
            if last is not None and last["decision"] == APPROVED and (finished or last["reason"] == self.config.reason):
                return ModelApproveResult(model_name, last["champion_version"], number, last["reason"])
            raise ApprovalRefused(f"version {number} of {model_name} is champion already; nothing was changed")
        waiting = self._require_waiting(number, last)
        # Nothing is written before the version is known to exist and to load.
        version = registry.version(number)
        registry.load(version)
        if champion is not None and champion.number != waiting["champion_version"]:
            self._require_better(version, champion)
        before = champion.number if champion else None
        history.record_approval(waiting, before, self.config.reason)
        registry.make_champion(number)
        self.log.info("champion is version %d: %s", number, self.config.reason)
        return ModelApproveResult(model_name, before, number, self.config.reason)

    def _number(self, rows: list[Row]) -> int:
        if self.config.version is None:
            decided: dict[int, str] = {}
            for row in rows:
                decided.setdefault(int(row["challenger_version"]), row["decision"])
            waiting = [str(number) for number, decision in sorted(decided.items()) if decision == WAITING]
            raise ApprovalRefused(f"version: name the version to approve; waiting: {', '.join(waiting) or 'none'}")
        if not self.config.reason.strip():
            raise ApprovalRefused("reason: an approval needs one; it goes into the promotions table")
        return self.config.version

    def _require_waiting(self, number: int, last: Row | None) -> Row:
        if last is not None and last["decision"] == WAITING:
            return last
        why = f"{last['decision']}: {last['reason']}" if last is not None else "no training has decided about it"
        name = self.session.env.model_name
        raise ApprovalRefused(f"version {number} of {name} does not wait for approval ({why}); nothing was changed")

    def _require_better(self, version: Version, champion: Version) -> None:
        recorded = self.session.registry.read_file(version.run_id, CONFIG_FILE)
        where = f"{CONFIG_FILE} of version {version.number}"
        recipe = read_recorded(TrainingRecipe, recorded, where)
        rule = read_recorded(_RecordedRule, recorded, where).comparison
        decision = compare(self.session, recipe, rule, version.number, champion.number).decision
        if not decision.promoted:
            raise ApprovalRefused(
                f"version {champion.number} became champion while version {version.number} waited, which is no better: "
                f"{decision.reason}; nothing was changed"
            )
