"""Plans that are numbers only, and a compiler that takes what it is told, for searches among plans."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np

import ckptgrad as cg
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.target.allocated import Memory
from ckptgrad.target.platform import Isolation


@dataclasses.dataclass(frozen=True)
class ImaginedPlan:
    """A plan that only has numbers."""

    program: Imagined
    schedule: cg.Schedule
    peak_bytes: int
    least_seconds: float
    fenced: bool = True
    called: bool = False
    open_seconds: float | None = None

    @property
    def number(self):
        return self.schedule.actions[0].stage

    @property
    def seconds(self):
        return 1 / (self.program.pace * (1 + self.number)) if self.open_seconds is None else self.open_seconds

    @property
    def simulation(self):
        return SimpleNamespace(recomputations=0)

    @property
    def parts(self):
        return (self,)

    @property
    def costs(self):
        return ChainCosts.uniform(1, residual_bytes=self.program.everything, boundary_bytes=0, cotangent_bytes=0)


class Imagined:
    """Plans that only have numbers: `predicted` bytes, ascending, and what a compiler takes for each.

    The last number is that of the plan whose stages are open, on a device with `memory` bytes; `seconds` are what the
    compiler says of that one, or, in a list, of each. `uniform` are the numbers of the plans that are uniform too. Plans are
    `pace` times as fast as those of another. To ask the compiler about a stage may be `slow`, and chunks may stay `near`.
    To store all is predicted to take `everything`. Plans with the numbers `asked` run the backwards of the smallest alone.
    On several devices stages may be calls, which take what is `called`.
    """

    def __init__(
        self,
        predicted,
        taken,
        opened=0,
        memory=None,
        uniform=(),
        seconds=None,
        pace=1.0,
        slow=False,
        everything=0,
        near=False,
        asked=(),
        called=None,
    ):
        self.predicted, self.taken, self.compilations, self.everything = predicted, [*taken, opened], 0, everything
        self.uniform, self.pace, self.devices = set(uniform), pace, 1 if called is None else 2
        self.taken += called or []
        self.stages, self.chunked = (SimpleNamespace(kind=self),) * len(predicted), False
        self.asked = {*asked}
        self.target = SimpleNamespace(
            key=("imagined", ""),
            attached=False,
            compiler_options=(),
            compiler_versions=(),
            lower=lambda number: SimpleNamespace(number=number, as_text=lambda: f"plan {number}"),
            platform=SimpleNamespace(
                isolation=Isolation.WHOLE,
                compiled_seconds=seconds,
                slow_probes=slow,
                near_memory=near,
                excess=0.03,
                calls_if_spread=True,
            ),
            priced_by="imagined",
            memory_bytes=memory,
            host_bytes=0,
            compile=self.compile,
            compiled_seconds=lambda number: seconds[number] if isinstance(seconds, list) else seconds,
            allocated=self.allocated,
        )

    @property
    def floor(self):
        """The seconds of the fastest plan."""
        return 1 / (self.pace * len(self.predicted))

    def limit(self, budget):
        """A budget in bytes."""
        return self.predicted[0] if budget == "min" else budget

    def build(self, limit, fenced=True, policy=None, called=False):
        within = [i for i, p in enumerate(self.predicted) if limit is None or p <= limit]
        if policy == "uniform":
            within = [i for i in within if i in self.uniform]
        if not within:
            raise cg.BudgetError(limit, self.predicted[0], None, "imagined")
        number = within[-1]
        keep = 0 if number in self.asked else number
        schedule = cg.Schedule((cg.Forward(number, keep=keep),), policy or "imagined")
        plan = ImaginedPlan(self, schedule, self.predicted[number], self.floor, fenced, called)
        return plan, self.number_of(plan)

    def number_of(self, plan):
        """That of a plan, of the one whose stages are open, or of those whose stages are calls."""
        first = len(self.predicted) + 1 if plan.called else 0
        return first + plan.number if plan.fenced else len(self.predicted)

    def compile(self, lowered):
        self.compilations += 1
        return lowered.number

    def allocated(self, number):
        return Memory(self.taken[number], 0, 0, 0)


def imagined_bytes(seed):
    """What plans are predicted to take, and do: up to a third less or a twentieth more, without any order."""
    random = np.random.default_rng(seed)
    predicted = np.unique(np.geomspace(1000, 10_000, int(random.integers(4, 60))).astype(int) + random.integers(0, 60))
    taken = (predicted * random.uniform(0.66, 1.05, len(predicted))).astype(int)
    return predicted.tolist(), taken.tolist()
