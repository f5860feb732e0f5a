"""Costs whose transients are what the target's compiler allocates for each distinct stage."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ckptgrad.chain.kind import StageKind
from ckptgrad.chain.program import Program
from ckptgrad.costs.estimated import costs_of_stages
from ckptgrad.costs.hosted import with_hosted
from ckptgrad.costs.probes import Figures, Place, Probe, ProbedRun, compile_probes, given_bytes, region_option, repetition
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost

# The share of a program that may be left in memory where the compiler keeps all of it near.
FEW = 1 / 16


def compiled_costs(program: Program) -> ChainCosts:
    """Estimated costs, with transients from the compiler's buffer assignment of each distinct stage.

    Estimates stay for stages with loops, which have many options: what these hold follows from how they are reversed. They
    also stay for stages on several devices where it is not known how values lie on these.

    Raises:
        OptionError: nothing here compiles for the program's target.
    """
    program.target.check_compiles()
    costs = costs_of_stages(program)
    places = places_of(program, costs)
    pairs = {(stage.kind, place) for stage, place in zip(program.stages, places, strict=True)}
    probes = {probe for kind, place in pairs if kind.is_probed_whole for probe in probes_of(kind, place)}
    compile_probes(probes)
    return with_probes(program, costs, places, probes)


def count_probes(program: Program) -> int:
    """The number of programs that `compiled_costs` compiles at most."""
    return sum(1 + 3 * len(kind.options) for kind in program.kinds if kind.is_probed_whole)


def probes_of(kind: StageKind, place: Place) -> Iterator[Probe]:
    """All programs of a kind of stage in a place."""
    yield Probe(kind, "forward", None)
    for k in range(len(kind.options)):
        yield from (Probe(kind, "forward", k), repetition(kind, k, place), Probe(kind, "backward", k, place))


def places_of(program: Program, costs: ChainCosts) -> list[Place]:
    """For each stage what surrounds it."""
    stays = [any(o.reads_output for o in stage.options) for stage in costs.stages]
    return [Place(*p) for p in zip([False, *stays[:-1]], program.summed, program.starting, strict=True)]


def with_probes(program: Program, costs: ChainCosts, places: Sequence[Place], asked: Collection[Probe]) -> ChainCosts:
    """Costs with the transients, and where they can be read the seconds, of the programs that a compiler was asked about.

    They are made from those of stages alone (`costs_of_stages`).
    Options that were not asked about stay as they were, but for the error of those of their stage that were: if the compiler
    takes more bytes for one, or other seconds, it is taken to do so for all. What the compiler keeps near takes no memory:
    it is taken to do so with other programs of the stage that hold no more than it kept near of one. Tables are held through
    the whole program.
    """
    seen: dict[tuple[Any, ...], StageCost] = {}
    stages: list[StageCost] = []
    for i, (stage, place, cost) in enumerate(zip(program.stages, places, costs.stages, strict=True)):
        beside = costs.boundary_bytes(i), costs.cotangent_bytes(i)
        is_last = i == len(program.stages) - 1
        key = (id(stage.kind), id(cost), place, *beside, is_last)
        if key not in seen:
            seen[key] = _ProbedStage(stage.kind, place, cost, asked, *beside, is_last).cost()
        stages.append(seen[key])
    held = costs.held_bytes + _table_bytes(program, places, asked)
    return with_hosted(program, replace(costs, stages=tuple(stages), held_bytes=held))


def _table_bytes(program: Program, places: Sequence[Place], asked: Collection[Probe]) -> int:
    """What the tables of all stages take: of each those of the backward that has most, as far as it was asked about.

    They hold whatever the plan: those of what it repeats are left out, and most tables are of what a backward fetches.
    """
    most: dict[tuple[StageKind, Place | None], int] = {}
    for probe in asked:
        key = probe.kind, probe.place
        most[key] = max(most.get(key, 0), probe.figures.table_bytes)
    return sum(most.get((stage.kind, place), 0) for stage, place in zip(program.stages, places, strict=True))


class _ProbedStage:
    """The cost of a stage between an incoming boundary and a cotangent that leaves, of these bytes."""

    def __init__(
        self,
        kind: StageKind,
        place: Place,
        cost: StageCost,
        asked: Collection[Probe],
        boundary: int,
        leaving: int,
        is_last: bool,
    ) -> None:
        self.kind, self.place, self.estimated, self.asked = kind, place, cost, asked
        self.boundary, self.leaving, self.is_last = boundary, leaving, is_last
        known = [(self._backward(k), option) for k, option in enumerate(cost.options)]
        self._more_backward = max([0, *(b - o.backward_transient for b, o in known if b is not None)])
        self._slower = self._ratio()
        self._near = self._kept_near()

    def cost(self) -> StageCost:
        """The cost, as far as it was asked for."""
        cost = self.estimated
        taken, held = self._taken("forward", None), self.boundary + cost.boundary_bytes
        plain = cost.forward_transient if held + cost.forward_transient > self._near else 0
        plain = plain if taken is None else max(0, taken.bytes - held)
        seconds = self._seconds("forward", None, cost.forward_time)
        options = tuple(self._option(k, option, seconds) for k, option in enumerate(cost.options))
        return replace(cost, options=options, forward_transient=plain, forward_time=seconds)

    def _option(self, k: int, option: SaveOption, plain_seconds: float) -> SaveOption:
        out = self.estimated.boundary_bytes
        held = self.boundary + out + option.residual_bytes
        taken = self._taken("forward", k)
        forward = option.forward_transient if taken is None else max(self._least(option), taken.bytes - held)
        if taken is None and held + forward <= self._near:
            forward = self._least(option)
        elif taken is None and self._least(option) < 0:
            # As much as stays near in the backward, which is next, does so from the forward on.
            forward = max(self._least(option), forward - self._near)
        backward = self._backward(k)
        if backward is None:
            given = given_bytes(self.kind, k, self.place) + self.leaving
            is_near = given + option.backward_transient <= self._near
            more = min([option.backward_transient + self._more_backward, *self._known_of_fewer(k)])
            backward = -given if is_near else more
        seconds = self._seconds("forward", k, option.forward_time)
        known = replace(
            option,
            forward_transient=forward,
            backward_transient=backward,
            forward_time=seconds,
            backward_time=self._seconds("backward", k, option.backward_time),
        )
        hidden, saved = self._without_output(k, known, option.output_time, option.forward_time)
        return replace(known, hidden_bytes=hidden, output_time=min(saved, seconds, plain_seconds))

    def _without_output(self, k: int, known: SaveOption, output_time: float, forward_time: float) -> tuple[int, float]:
        """What a forward that keeps option k and produces no output takes beyond its transient, and what time that saves."""
        # The output needs the same share of the forward as estimated, where it was not read.
        share = output_time * (known.forward_time / forward_time if forward_time else 1.0)
        taken, together = self._repetition(k), region_option(self.kind)
        if taken is None:
            return known.hidden_bytes, share
        if together is None:
            made = self.boundary + known.residual_bytes + known.forward_transient
            saved = share if taken.seconds is None else max(0.0, known.forward_time - taken.seconds)
            return max(0, taken.bytes - made), saved
        region = self._backward(together) or 0
        hidden = region + self.leaving - known.residual_bytes - known.forward_transient
        return max(0, hidden), share if taken.seconds is None else max(0.0, known.time - taken.seconds)

    def _least(self, option: SaveOption) -> int:
        """The least that a forward takes beside what it keeps: what the last stage keeps may stay near until its backward,
        which is next."""
        is_next = self.is_last and option.reads_input and self.kind.target.platform.near_memory
        return -option.residual_bytes if is_next else 0

    def _kept_near(self) -> int:
        """Bytes that the compiler keeps near: a backward that it was asked about takes so many fewer than by estimates.

        More than the device has near are an error of these, unless hardly anything is left (`FEW`).
        """
        target = self.kind.target
        if not target.platform.near_memory:
            return 0
        near = 0
        for k, option in enumerate(self.estimated.options):
            taken = self._taken("backward", k)
            if taken is not None:
                estimate = option.backward_transient + given_bytes(self.kind, k, self.place) + self.leaving
                fewer = estimate - taken.bytes
                near = max(near, fewer if taken.bytes <= FEW * estimate else min(fewer, int(target.rates.cache)))
        return near

    def _repetition(self, k: int) -> Figures | None:
        probe = repetition(self.kind, k, self.place)
        return probe.figures if probe in self.asked else None

    def _backward(self, k: int) -> int | None:
        taken = self._taken("backward", k)
        return None if taken is None else taken.bytes - given_bytes(self.kind, k, self.place) - self.leaving

    def _known_of_fewer(self, k: int) -> Iterator[int]:
        """What backwards that were asked about hold beside what they are given, which have fewer residuals than option k.

        They make the others again, and hold them then: with all given there is no more to hold. Estimates, which do not know
        what stays near, tell of more.
        """
        kind = self.kind
        if not kind.target.platform.near_memory or k in kind.over_chunks:
            return
        part = kind.options[k].partition
        for m, option in enumerate(kind.options):
            fewer = option.partition.joint is part.joint and {*option.partition.residuals} < {*part.residuals}
            if fewer and m not in kind.over_chunks and (known := self._backward(m)) is not None:
                yield known

    def _ratio(self) -> float:
        """How much longer the programs that were asked about take than estimated.

        Where these are a small part of a forward and a backward, they tell of that part alone: a backward that was estimated
        at next to nothing may take many times that, and forwards no longer for it. Of stages that may run over chunks those
        asked about run over many: what is told too slow of these says nothing of others.
        """
        cost = self.estimated
        pairs = [(self._taken("forward", None), cost.forward_time)]
        for k, option in enumerate(cost.options):
            pairs += [(self._taken("forward", k), option.forward_time), (self._taken("backward", k), option.backward_time)]
        known = [(taken.seconds, estimate) for taken, estimate in pairs if taken is not None and taken.seconds is not None]
        estimated = sum(estimate for _, estimate in known)
        whole = max(estimated, min((option.time for option in cost.options), default=0.0))
        ratio = 1 + (sum(seconds for seconds, _ in known) - estimated) / whole if whole else 1.0
        return max(1.0, ratio) if self.kind.over_chunks else ratio

    def _seconds(self, run: ProbedRun, k: int | None, estimate: float) -> float:
        taken = self._taken(run, k)
        return estimate * self._slower if taken is None or taken.seconds is None else taken.seconds

    def _taken(self, run: ProbedRun, k: int | None) -> Figures | None:
        """What the compiler said of a program; None if it was not asked."""
        probe = Probe(self.kind, run, k, self.place if run == "backward" else None)
        return probe.figures if probe in self.asked else None
