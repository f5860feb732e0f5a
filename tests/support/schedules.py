"""Schedules of random chains that are valid and nothing more: nested or not, wasteful or not."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from ckptgrad.planning import Action, Backward, ChainCosts, Forward, Free
from ckptgrad.planning.nested import Decision, Keep, Segment, Split, write_nested
from ckptgrad.planning.writer import ScheduleWriter


@st.composite
def nested_schedules(draw: st.DrawFn, costs: ChainCosts) -> ScheduleWriter:
    """A nested schedule whose every decision is drawn."""
    chance = random.Random(draw(st.integers(0, 2**32)))

    def decide(segment: Segment) -> Decision:
        options = len(costs.stages[segment.first].options)
        if segment.first == segment.last or chance.random() < 0.5:
            return Keep(chance.randrange(options))
        return Split(chance.randint(segment.first + 1, segment.last))

    return write_nested(costs, decide)


@st.composite
def valid_schedules(draw: st.DrawFn, costs: ChainCosts) -> list[Action]:
    """A schedule that wanders: between two backwards anything that may run is run or not."""
    return _Wanderer(costs, random.Random(draw(st.integers(0, 2**32)))).actions


class _Wanderer:
    """Follows the rules of actions by itself, so that a schedule is valid whatever the code under test says."""

    def __init__(self, costs: ChainCosts, chance: random.Random):
        self.costs, self.chance, self.end = costs, chance, len(costs)
        self.boundaries, self.kept = {0}, dict[int, int]()
        self.actions: list[Action] = []
        for stage in reversed(range(self.end)):
            for _ in range(chance.randrange(5)):
                self.wander(stage)
            self.reach(stage)
            self.actions.append(Backward(stage))
            del self.kept[stage]
        self.free(self.boundaries - {self.end})

    def wander(self, last: int) -> None:
        """Any forward, or the free of any boundary but the chain's ends."""
        inner = self.boundaries - {0, self.end}
        if inner and self.chance.random() < 0.4:
            self.free({self.chance.choice(sorted(inner))})
            return
        stage = self.chance.choice(sorted(self.boundaries - {self.end}))
        may_keep = stage <= last and stage not in self.kept
        keep = self.chance.randrange(len(self.costs.stages[stage].options)) if may_keep else None
        keep = None if self.chance.random() < 0.4 else keep
        self.forward(stage, keep, output=keep is None or stage == self.end - 1 or self.chance.random() < 0.6)

    def reach(self, stage: int) -> None:
        """Hold all that the backward of a stage reads."""
        self.sweep(stage)
        if stage not in self.kept:
            keep = self.chance.randrange(len(self.costs.stages[stage].options))
            option = self.costs.stages[stage].options[keep]
            self.forward(stage, keep, output=option.reads_output or stage == self.end - 1 or self.chance.random() < 0.5)
        if self.costs.stages[stage].options[self.kept[stage]].reads_output and stage + 1 not in self.boundaries:
            self.forward(stage, None, output=True)
        if stage == self.end - 1 and self.end not in self.boundaries:
            self.forward(stage, None, output=True)

    def sweep(self, stage: int) -> None:
        for first in range(max(b for b in self.boundaries if b <= stage), stage):
            self.forward(first, None, output=True)

    def forward(self, stage: int, keep: int | None, output: bool) -> None:
        self.actions.append(Forward(stage, keep, output))
        if keep is not None:
            self.kept[stage] = keep
        if output:
            self.boundaries.add(stage + 1)

    def free(self, boundaries: set[int]) -> None:
        self.actions += [Free(b) for b in sorted(boundaries)]
        self.boundaries -= boundaries
