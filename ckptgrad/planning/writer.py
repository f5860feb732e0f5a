"""Writes a schedule action by action and keeps its books: live bytes, peak bytes, seconds.

For policies, which must know what their schedule costs before they offer it and may not ask the referee.
Does not: check anything: a policy that writes nonsense gets nonsense, which `simulate` then refuses.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ckptgrad.errors import BudgetError
from ckptgrad.once import once
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.ledger import Ledger, sweep_bytes
from ckptgrad.planning.schedule import Action, Forward, Free, Schedule


class ScheduleWriter:
    """The actions so far, and their `live` and `peak` bytes, `time` in seconds and the stage at the peak.

    Actions are counted when a figure is asked for, all since the last time in one loop: there may be millions of them.
    """

    def __init__(self, costs: ChainCosts) -> None:
        self.costs = costs
        self.actions: list[Action] = []
        self._ledger = Ledger(costs)
        self._counted = 0

    @property
    def live(self) -> int:
        """Bytes held after the actions so far."""
        return self._books().live

    @property
    def peak(self) -> int:
        """Bytes at the worst moment of the actions so far."""
        return self._books().peak

    @property
    def peak_stage(self) -> int | None:
        """The stage of the first action that reaches the peak; None where there is none."""
        return self._books().peak_stage

    @property
    def time(self) -> float:
        """Seconds of the actions so far."""
        return self._books().seconds

    def append(self, action: Action) -> None:
        """Append an action."""
        self.actions.append(action)

    def _books(self) -> Ledger:
        """The ledger of all actions so far."""
        if self._counted < len(self.actions):
            self._ledger.run(self.actions[self._counted :])
            self._counted = len(self.actions)
        return self._ledger

    def sweep(self, first: int, end: int) -> None:
        """Append forwards of stages `first` to `end` - 1 that keep nothing, each boundary between them freed behind.

        Writes what the single actions would, at the price of one: minimal memory takes a quadratic number of forwards.
        """
        ledger = self._books()
        if not ledger.boundaries.isdisjoint(range(first + 1, end + 1)):
            for stage in range(first, end):
                self.append(Forward(stage))
                if stage > first:
                    self.append(Free(stage))
            return
        actions, boundaries, during, seconds = self._sweeps
        # The first stage's input stays; that of each further one is freed with it.
        needs = during[first:end] - boundaries[first] * (np.arange(first, end) == first)
        worst = int(needs.argmax())
        ledger.sweep(first, end, int(needs[worst]), first + worst, float(seconds[first:end].sum()))
        self.actions.append(actions[2 * first])
        self.actions += actions[2 * first + 2 : 2 * end]
        self._counted = len(self.actions)

    @once
    def _sweeps(self) -> tuple[list[Action], np.ndarray, np.ndarray, np.ndarray]:
        """Each stage's forward and the free behind it; bytes of boundaries, bytes during each forward, its seconds."""
        stages = self.costs.stages
        actions: list[Action] = [a for i in range(len(stages)) for a in (Forward(i), Free(i))]
        boundaries = np.array([self.costs.boundary_bytes(i) for i in range(len(stages) + 1)], np.int64)
        seconds = np.array([stage.forward_time for stage in stages])
        return actions, boundaries, np.array(sweep_bytes(self.costs), np.int64), seconds

    def replay(self, actions: Iterable[Action]) -> None:
        """Append actions that were decided elsewhere.

        Raises:
            ScheduleError: one of them is not an action.
        """
        self.actions += actions
        self._books()

    def fits(self, budget: int | None) -> bool:
        """Whether the peak is within `budget` bytes; None is unbounded."""
        return budget is None or self.peak <= budget

    def finish(self, policy: str, budget: int | None = None) -> Schedule:
        """The schedule, or BudgetError with its peak when `budget` bytes do not hold it."""
        if budget is not None and not self.fits(budget):
            raise BudgetError(budget, self.peak, self.peak_stage, policy)
        return Schedule(tuple(self.actions), policy)
