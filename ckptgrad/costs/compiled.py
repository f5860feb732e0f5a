"""Costs of which the transients are what the target's compiler allocates for each distinct stage."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ckptgrad.chain.kind import StageKind
from ckptgrad.chain.program import Program
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.probes import Place, Probe, compile_probes, given_bytes
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost


def compiled_costs(program: Program) -> ChainCosts:
    """Estimated costs, with transients from the compiler's buffer assignment of each distinct stage.

    Estimates stay for stages with loops, which have many options: what these hold follows from how they are reversed. They
    also stay for stages on several devices, whose bytes are those of all devices together.

    Raises:
        OptionError: nothing here compiles for the program's target.
    """
    program.target.check_compiles()
    costs = estimated_costs(program)
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
        yield from (Probe(kind, "forward", k), Probe(kind, "hidden", k), Probe(kind, "backward", k, place))


def places_of(program: Program, costs: ChainCosts) -> list[Place]:
    """For each stage what surrounds it."""
    stays = [any(o.reads_output for o in stage.options) for stage in costs.stages]
    return [Place(*p) for p in zip([False, *stays[:-1]], program.summed, program.starting, strict=True)]


def with_probes(program: Program, costs: ChainCosts, places: Sequence[Place], asked: Collection[Probe]) -> ChainCosts:
    """Costs with the transients of the programs that a compiler was asked about.

    The others stay as they were, but for what was found of their stage: if the compiler takes more, or less, for the options
    asked about, it is taken to do so for the others too.
    """
    seen: dict[tuple[Any, ...], StageCost] = {}
    stages: list[StageCost] = []
    for i, (stage, place, cost) in enumerate(zip(program.stages, places, costs.stages, strict=True)):
        beside = costs.boundary_bytes(i), costs.cotangent_bytes(i)
        key = (id(stage.kind), id(cost), place, *beside)
        if key not in seen:
            seen[key] = _ProbedStage(stage.kind, place, cost, asked, *beside).cost()
        stages.append(seen[key])
    return replace(costs, stages=tuple(stages))


class _ProbedStage:
    """The cost of a stage between an incoming boundary and a cotangent that leaves, of these bytes."""

    def __init__(
        self, kind: StageKind, place: Place, cost: StageCost, asked: Collection[Probe], boundary: int, leaving: int
    ):
        self.kind, self.place, self.estimated, self.asked = kind, place, cost, asked
        self.boundary, self.leaving = boundary, leaving
        known = [(self._backward(k), option) for k, option in enumerate(cost.options)]
        self._more_backward = max((b - o.backward_transient for b, o in known if b is not None), default=0)

    def cost(self) -> StageCost:
        """The cost, as far as it was asked for."""
        cost = self.estimated
        taken = self._taken(Probe(self.kind, "forward", None))
        plain = cost.forward_transient if taken is None else max(0, taken - self.boundary - cost.boundary_bytes)
        options = tuple(self._option(k, option) for k, option in enumerate(cost.options))
        return replace(cost, options=options, forward_transient=plain)

    def _option(self, k: int, option: SaveOption) -> SaveOption:
        out = self.estimated.boundary_bytes
        held = self.boundary + out + option.residual_bytes
        taken = self._taken(Probe(self.kind, "forward", k))
        forward = option.forward_transient if taken is None else max(0, taken - held)
        backward = self._backward(k)
        if backward is None:
            backward = option.backward_transient + self._more_backward
        taken = self._taken(Probe(self.kind, "hidden", k))
        hidden = option.hidden_bytes if taken is None else max(0, taken + out - held - forward)
        return replace(option, forward_transient=forward, backward_transient=backward, hidden_bytes=hidden)

    def _backward(self, k: int) -> int | None:
        taken = self._taken(Probe(self.kind, "backward", k, self.place))
        return None if taken is None else taken - given_bytes(self.kind, k, self.place) - self.leaving

    def _taken(self, probe: Probe) -> int | None:
        """Bytes of its temporaries; None where nobody asked."""
        return probe.bytes if probe in self.asked else None
