"""Save options that store in another memory than the device's, where that has no room for what all stages would store there.

Algorithm: a schedule by all options is taken if what it keeps there is within the room.  Where it is not, two divisions of
the room are tried, and the better schedule is taken: as much as there is left for each stage, those that store most first;
and the same share for each stage.  A stage has only the options then that are within its part.
Regime: a room for each stage alone is seen to when its options are made; each stage has an option that stores nothing there.
Does not: find the best division, or let stages take turns: all that is kept there counts as if it were at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.planning.ledger import Ledger
from ckptgrad.planning.schedule import Forward, Schedule

# Of each stage, the bytes that each save option stores there.
Stored = Sequence[Sequence[int]]


def schedule_within_room(
    costs: ChainCosts, stored: Stored, room: int, plan: Callable[[ChainCosts], Schedule], *, least: bool = False
) -> Schedule:
    """The schedule that `plan` writes, by as many options as there is room for.

    Args:
        costs: of the chain.
        stored: what its options store there.
        room: bytes.
        plan: from costs to a schedule within the budget.
        least: whether the smallest is the best, rather than the fastest.

    Raises:
        BudgetError: no schedule fits; of the smallest one that was found.
    """
    if _total(stored, schedule := plan(costs)) <= room:
        return schedule
    found: list[Schedule] = []
    errors: list[BudgetError] = []
    for parts in (_largest_first(stored, room), _equal(stored, room)):
        fewer = _Fewer.of(costs, stored, parts)
        try:
            found.append(fewer.restored(plan(fewer.costs)))
        except BudgetError as error:
            errors.append(error)
    if not found:
        raise min(errors, key=lambda error: error.smallest)

    def worth(schedule: Schedule) -> tuple[float, float]:
        ledger = Ledger(costs)
        ledger.run(schedule.actions)
        return (ledger.peak, ledger.seconds) if least else (ledger.seconds, ledger.peak)

    return min(found, key=worth)


def _total(stored: Stored, schedule: Schedule) -> int:
    return sum(stored[stage][keep] for stage, keep in schedule.kept.items())


def _largest_first(stored: Stored, room: int) -> list[int]:
    parts, left = [0] * len(stored), room
    for i in sorted(range(len(stored)), key=lambda i: -max(stored[i])):
        parts[i] = max(size for size in stored[i] if size <= left)
        left -= parts[i]
    return parts


def _equal(stored: Stored, room: int) -> list[int]:
    storing = sum(any(sizes) for sizes in stored)
    return [room // max(1, storing)] * len(stored)


@dataclass(frozen=True)
class _Fewer:
    """Costs with fewer options, and the number that each option of a stage had."""

    costs: ChainCosts
    numbers: Sequence[Sequence[int]]

    @staticmethod
    def of(costs: ChainCosts, stored: Stored, parts: Sequence[int]) -> _Fewer:
        numbers = [
            tuple(k for k, size in enumerate(sizes) if size <= part) for sizes, part in zip(stored, parts, strict=True)
        ]
        # Equal stages stay one object.
        made: dict[tuple[int, tuple[int, ...]], StageCost] = {}
        stages: list[StageCost] = []
        for stage, kept in zip(costs.stages, numbers, strict=True):
            key = id(stage), kept
            if key not in made:
                made[key] = replace(stage, options=tuple(stage.options[k] for k in kept))
            stages.append(made[key])
        return _Fewer(replace(costs, stages=tuple(stages)), numbers)

    def restored(self, schedule: Schedule) -> Schedule:
        """A schedule by these costs, with the numbers that options have."""
        actions = (
            replace(action, keep=self.numbers[action.stage][action.keep])
            if isinstance(action, Forward) and action.keep is not None
            else action
            for action in schedule
        )
        return Schedule(tuple(actions), schedule.policy)
