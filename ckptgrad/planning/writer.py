"""Writes a schedule action by action and keeps its books: live bytes, peak bytes, seconds.

For policies, which must know what their schedule costs before they offer it and may not ask the referee.
Does not: check anything; a policy that writes nonsense gets nonsense, and `simulate` refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from ckptgrad.errors import BudgetError
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.schedule import Action, Backward, Forward, Free, Schedule, unknown_action


class ScheduleWriter:
    """The actions so far, and their `live` and `peak` bytes, `time` in seconds and the stage at the peak."""

    def __init__(self, costs: ChainCosts):
        self.costs = costs
        self.actions: list[Action] = []
        self.live = costs.held_bytes + costs.boundary_bytes(0) + costs.cotangent_bytes(len(costs))
        self.peak = 0
        self.peak_stage: int | None = None
        self.time = 0.0
        self._held = {0}
        self._kept: dict[int, int] = {}

    def forward(self, stage: int, keep: int | None = None, output: bool = True) -> None:
        """Append Forward(stage, keep, output)."""
        cost = self.costs.stages[stage]
        gained = cost.boundary_bytes if output else 0
        self.time += cost.forward_seconds(keep, output)
        if keep is None:
            transient = cost.forward_transient
        else:
            option = cost.options[keep]
            transient = option.forward_transient + (0 if output else option.hidden_bytes)
            gained += option.residual_bytes
            self._kept[stage] = keep
        self._reach(self.live + gained + transient, stage)
        self.live += gained
        if output:
            if stage + 1 in self._held:
                self.live -= cost.boundary_bytes
            self._held.add(stage + 1)
        self.actions.append(Forward(stage, keep, output))

    def backward(self, stage: int) -> None:
        """Append Backward(stage)."""
        cost = self.costs.stages[stage]
        option = cost.options[self._kept.pop(stage)]
        arriving = self.costs.cotangent_bytes(stage)
        self._reach(self.live + arriving + option.backward_transient, stage)
        self.live += arriving - cost.cotangent_bytes - option.residual_bytes
        self.time += option.backward_time
        self.actions.append(Backward(stage))

    def free(self, boundary: int) -> None:
        """Append Free(boundary)."""
        self.live -= self.costs.boundary_bytes(boundary)
        self._held.discard(boundary)
        self.actions.append(Free(boundary))

    def sweep(self, first: int, end: int) -> None:
        """Append forwards of stages `first` to `end` - 1 that keep nothing, each boundary between them freed behind.

        What many short actions would write, at the price of one: minimal memory takes a quadratic number of forwards.
        """
        if not self._held.isdisjoint(range(first + 1, end + 1)):
            for stage in range(first, end):
                self.forward(stage)
                if stage > first:
                    self.free(stage)
            return
        actions, boundaries, during, seconds = self._sweeps
        # The first stage's input stays; that of each further one is freed with it.
        needs = during[first:end] - boundaries[first] * (np.arange(first, end) == first)
        worst = int(needs.argmax())
        self._reach(self.live + int(needs[worst]), first + worst)
        self.live += int(boundaries[end])
        self.time += float(seconds[first:end].sum())
        self._held.add(end)
        self.actions.append(actions[2 * first])
        self.actions += actions[2 * first + 2 : 2 * end]

    @cached_property
    def _sweeps(self) -> tuple[list[Action], np.ndarray, np.ndarray, np.ndarray]:
        """Each stage's forward and the free behind it; bytes of boundaries, bytes during each forward, its seconds."""
        stages = self.costs.stages
        actions: list[Action] = [a for i in range(len(stages)) for a in (Forward(i), Free(i))]
        boundaries = np.array([self.costs.boundary_bytes(i) for i in range(len(stages) + 1)], np.int64)
        transients = np.array([stage.forward_transient for stage in stages], np.int64)
        seconds = np.array([stage.forward_time for stage in stages])
        return actions, boundaries, boundaries[:-1] + boundaries[1:] + transients, seconds

    def replay(self, actions: Iterable[Action]) -> None:
        """Append actions that were decided elsewhere."""
        for action in actions:
            match action:
                case Forward(stage, keep, output):
                    self.forward(stage, keep, output)
                case Backward(stage):
                    self.backward(stage)
                case Free(boundary):
                    self.free(boundary)
                case _:
                    raise unknown_action(action)

    def fits(self, budget: int | None) -> bool:
        """Whether the peak is within `budget` bytes; None is no bound."""
        return budget is None or self.peak <= budget

    def finish(self, policy: str, budget: int | None = None) -> Schedule:
        """The schedule, or BudgetError with its peak when `budget` bytes do not hold it."""
        if budget is not None and not self.fits(budget):
            raise BudgetError(budget, self.peak, self.peak_stage, policy)
        return Schedule(tuple(self.actions), policy)

    def _reach(self, live: int, stage: int) -> None:
        if live > self.peak:
            self.peak, self.peak_stage = live, stage
