"""A plan: a schedule with its predicted peak and time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckptgrad.chain.opened import is_estimated, open_is_faster, opened
from ckptgrad.chain.program import Program
from ckptgrad.chunks.choice import ChunkChoice
from ckptgrad.graph.traits import is_materialised, is_transcendental
from ckptgrad.once import once
from ckptgrad.planning.bound import least_seconds
from ckptgrad.planning.costs import ChainCosts
from ckptgrad.planning.frontier import Point, points_of_all, quick_points
from ckptgrad.planning.imported_schedules import FORMAT
from ckptgrad.planning.knee import knee_of
from ckptgrad.planning.makespan import Rates
from ckptgrad.planning.referee import Simulation
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.advice.advice import Advice, advice_on
from ckptgrad.results.at_peak import AtPeak, Floor, at_peak, floor_of
from ckptgrad.results.microbatches import Microbatches
from ckptgrad.results.outcomes import OUTCOMES, Outcome
from ckptgrad.results.over_chunks import Chunks, stages_over_chunks
from ckptgrad.results.shown import Shown
from ckptgrad.results.timeline import Timeline, predict
from ckptgrad.rules.borrowed import borrowed_in
from ckptgrad.stage.encodings.encoding import largest_error
from ckptgrad.target.platform import Isolation
from ckptgrad.target.target import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """A schedule with its predicted peak and time.

    Attributes:
        program: the chain it is for.
        costs: the planner's view of the chain, in bytes and estimated seconds.
        schedule: the actions.
        simulation: the referee's account of the schedule.
        budget: bytes beyond the arguments, or None.
        fenced: whether stages are isolated from each other.
        called: whether they are so by calls, other than their platform does it (`Platform.calls_if_spread`).
        open_seconds: of a plan that was compiled with its stages open to each other, the estimated seconds of that program.
        makespan: of a plan that sends values to tiers, the simulated seconds, of which some pass beside transfers.
        moving_bytes: of such a plan, bytes of one value on its way there and one on its way back, beside what it holds; or
            what its budget leaves of that.
        tier_rates: of such a plan, how fast each tier is taken to be, and from what that is known.
        budget_source: what the budget is taken from, in words, where it was asked for as "auto" or as a share.
        microbatches: in how many parts of the batch it runs, one after the other; program and costs are those of one.
        floor_seconds: of a plan over chunks, seconds below which its estimate is not believed: those with which it is worth
            looking at (`doors.choosing`), so that of a larger budget, for which nothing is chunked, no more are told.
        others: of the other ways to cut the call that were planned, or would be for other budgets, the costs and, as
            `floor_seconds`, the least seconds of each.
        chunk_choice: whether its stages might have run over chunks of an axis, and of which.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> plan = cg.plan(lambda ws, x: jnp.sum(jnp.tanh(jnp.tanh(x @ ws[0]) @ ws[1])), [jnp.eye(8)] * 2, jnp.ones((64, 8)))
        >>> isinstance(plan, cg.Plan), plan.peak_bytes > plan.temporary_bytes, plan.simulation.recomputations
        (True, True, 0)
    """

    program: Program
    costs: ChainCosts
    schedule: Schedule
    simulation: Simulation
    budget: int | None
    fenced: bool = True
    called: bool = False
    open_seconds: float | None = None
    makespan: float | None = None
    moving_bytes: int = 0
    tier_rates: Mapping[str, Rates] = field(default_factory=dict[str, Rates])
    budget_source: str = ""
    microbatches: Microbatches | None = None
    floor_seconds: float = 0.0
    others: tuple[tuple[ChainCosts, float], ...] = ()
    chunk_choice: ChunkChoice = field(default=ChunkChoice(considered=True))

    @property
    def parts(self) -> tuple[Plan, ...]:
        """The plans that are compiled together, which is this one alone; a step (`StepPlan`) may have several."""
        return (self,)

    @property
    def peak_bytes(self) -> int:
        """Predicted bytes beyond the arguments at the worst moment: temporaries and outputs.

        Of stages that are open to each other those of the whole program, where that can be estimated (`is_predicted`).
        """
        peak = self.simulation.peak if self.fenced or self.opened_bytes is None else self.opened_bytes
        carried = 0 if self.microbatches is None else self.microbatches.carried_bytes
        return peak + self.moving_bytes + carried

    @once
    def opened_bytes(self) -> int | None:
        """Predicted bytes beyond the arguments if stages are open to each other, as in a program of `jax.grad`: nothing is
        repeated then, and the compiler keeps what it likes. None where that is not estimated, on CPU."""
        return opened(self.program, self.schedule.kept).peak_bytes() if is_estimated(self.target) else None

    @property
    def compiled_open(self) -> bool:
        """Whether `.compile` leaves its stages open to each other: without a budget, where that is faster."""
        return self.budget is None and self.schedule.policy == "optimal" and open_is_faster(self.program)

    @property
    def is_predicted(self) -> bool:
        """Whether `peak_bytes` is what its program is predicted to take."""
        return self.fenced or self.opened_bytes is not None

    @property
    def isolation(self) -> Isolation:
        """How stages are kept apart."""
        if not self.fenced:
            return Isolation.NONE
        return Isolation.CALLS if self.called else self.target.platform.isolation

    @property
    def target(self) -> Target:
        """What it is for."""
        return self.program.target

    @property
    def temporary_bytes(self) -> int:
        """Predicted bytes of temporaries alone."""
        return self.peak_bytes - self.program.output_bytes - self.program.gradient_bytes

    @property
    def seconds(self) -> float:
        """Estimated seconds of one call; only ratios between plans mean much."""
        if self.makespan is not None:
            return self.makespan
        seconds = max(self.simulation.time if self.open_seconds is None else self.open_seconds, self.floor_seconds)
        if self.microbatches is not None:
            return self.microbatches.count * seconds + self.microbatches.adding_seconds
        return seconds

    @property
    def least_seconds(self) -> float:
        """A lower bound on the estimated seconds of every schedule within the budget (`planning.bound`)."""
        return least_seconds(self.costs, self.budget)

    @property
    def fastest_seconds(self) -> float:
        """Estimated seconds of the fastest plan without a budget, of all ways to cut the call; of one microbatch."""
        return min(sum(s.options[s.fastest].time for s in costs.stages) for costs, _ in self.ways)

    @once
    def points(self) -> tuple[Point, ...]:
        """Bytes against seconds of optimal plans, of all ways to cut the call, in at most about the time of a plan each.

        Empty for chains of thousands of different stages, and of no use beside a plan that runs in microbatches.
        """
        return tuple(points_of_all(self.ways, quick_points))

    @property
    def ways(self) -> tuple[tuple[ChainCosts, float], ...]:
        """Of each way to cut the call, this plan's first, the costs and the least seconds of its plans."""
        return ((self.costs, self.floor_seconds), *self.others)

    @property
    def knee(self) -> Point | None:
        """The knee of the frontier of optimal plans (`planning.knee`), where this plan is below it: fewer bytes, more time.

        None for plans beyond the knee or of another policy, and for chains of thousands of different stages.
        """
        points = self.points if self.schedule.policy == "optimal" else ()
        knee = knee_of(points) if points else None
        below = knee and self.simulation.peak < knee.peak_bytes and self.seconds > knee.seconds
        return knee if below else None

    @once
    def at_peak(self) -> AtPeak:
        """What is held at the peak: by kind, with the stage that sets it and its arrays."""
        return at_peak(self.program, self.costs, self.schedule, self.simulation)

    @once
    def floor(self) -> Floor:
        """The smallest peak of any optimal plan, and what holds it up."""
        return floor_of(self.program, self.costs)

    @once
    def advice(self) -> tuple[Advice, ...]:
        """What sets the peak, what other budgets cost, and what would help: computed when it is first asked for."""
        return advice_on(self)

    @property
    def recomputing_inside(self) -> int:
        """The number of stages whose backwards compute again, inside, what their forwards computed and did not keep."""
        found = 0
        for i, keep in self.schedule.kept.items():
            again = self.program.stages[i].kind.options[keep].partition.recomputed
            found += any(is_materialised(op) or is_transcendental(op) for op in again)
        return found

    @property
    def choices(self) -> list[str]:
        """For each stage, the save option that its backward starts from."""
        kept = self.schedule.kept
        return [stage.options[kept[i]].name if i in kept else "-" for i, stage in enumerate(self.costs.stages)]

    @once
    def chunks(self) -> dict[int, Chunks]:
        """The stages that run over chunks: how many, of how many entries of which axis."""
        return stages_over_chunks(self.program, self.schedule.kept)

    @property
    def chunk_axes(self) -> dict[int, str]:
        """For each stage that runs over chunks the axis: "axis 1 of batch['tokens']", or "" if no argument has it."""
        return {i: chunks.axis for i, chunks in self.chunks.items()}

    @property
    def encodings(self) -> tuple[str, ...]:
        """The names of the encodings in which it keeps values, those of `encodings=` that it uses."""
        options = {self.program.stages[i].kind.options[keep].encodings: None for i, keep in self.schedule.kept.items()}
        return tuple(dict.fromkeys(name for names in options for name in names))

    @property
    def is_exact(self) -> bool:
        """Whether all values that it keeps come back equal in all bits; if not, the gradient is inexact."""
        return largest_error(self.encodings) == 0

    @property
    def found(self) -> Outcome | None:
        """What it took when it was last compiled in this process; with seconds once `Certified.compare` timed it.

        None for stages that are not fenced, which are not what the predictions are for.
        """
        return OUTCOMES.get(self.program, self.schedule) if self.fenced else None

    @property
    def borrowed(self) -> list[str]:
        """The primitives that are differentiated by JAX's own rule (`use_jax_rule`)."""
        return borrowed_in(self.program.graph)

    def timeline(self, name: str = "plan") -> Timeline:
        """What will be held during the call, as predicted; `ckptgrad.timeline` observes it too."""
        predicted = predict(name, self.program, self.costs, self.schedule, self.budget)
        return replace(predicted, advise=lambda: self.advice, budget_source=self.budget_source)

    def diagram(self) -> str:
        """The schedule as a space-time diagram in letters, for terminals."""
        return self._renderer.diagram(self)

    def plot(self, ax: Axes | None = None) -> Figure:
        """The schedule as a space-time diagram, on the given axes or a new figure; needs matplotlib."""
        return self.figures()["schedule"](ax)

    def plot_costs(self) -> Figure:
        """What each stage costs, in bytes and seconds; needs matplotlib."""
        return self.figures()["stage costs"]()

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "format": FORMAT,
            "policy": self.schedule.policy,
            "budget_bytes": self.budget,
            "budget_source": self.budget_source,
            "fenced": self.fenced,
            "called": self.called,
            "opened_bytes": self.opened_bytes if self.compiled_open else None,
            "microbatches": None if self.microbatches is None else asdict(self.microbatches),
            "devices": self.program.devices,
            "peak_bytes": self.peak_bytes,
            "argument_bytes": self.program.argument_bytes,
            "total_bytes": self.peak_bytes + sum(self.program.argument_bytes.values()),
            "temporary_bytes": self.temporary_bytes,
            "output_bytes": self.program.output_bytes,
            "gradient_bytes": self.program.gradient_bytes,
            "estimated_seconds": self.seconds,
            "knee": self.knee and {"peak_bytes": self.knee.peak_bytes, "seconds": self.knee.seconds},
            "encodings": list(self.encodings),
            "exact": self.is_exact,
            "found_gradient_error": self.found and self.found.gradient_error,
            "found_peak_bytes": self.found and self.found.peak_bytes,
            "found_seconds": self.found and self.found.seconds,
            "stages": len(self.costs),
            "distinct_stages": len(self.program.kinds),
            "recomputed_stages": self.simulation.recomputations,
            "choices": self.choices,
            "chunk_axes": self.chunk_axes,
            "options": [[option.name for option in stage.options] for stage in self.costs.stages],
            "sent_boundaries": self.schedule.sent,
            "tiers": {tier: asdict(rates) for tier, rates in self.tier_rates.items()},
            "lower_bound_seconds": self.least_seconds,
            "borrowed_rules": self.borrowed,
            "advice": [advice.to_dict() for advice in self.advice],
            "schedule": [str(a) for a in self.schedule],
        }

    def to_json(self) -> str:
        """The plan as JSON, for `load_plan` and other programs."""
        return json.dumps(self.to_dict())
