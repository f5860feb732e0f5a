# pyright: reportUnknownMemberType=false
"""What the target's compiler allocates for one stage: its forward and backward compiled alone.

In a whole program each is an isolated call (`execution.isolated`), so what it holds there is what it holds alone. Its
operands and its results are made and read inside the program (`probe_values`), so that all of them count as temporaries,
live as long as in a whole program, and are overwritten where the compiler would overwrite them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from ckptgrad.chain.kind import PerKind, StageKind, private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.costs.estimated import estimated_costs
from ckptgrad.costs.probe_values import consume, fillings, is_plain, produce
from ckptgrad.execution.interpreter import stage_functions
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.value_types import cotangent_struct, struct
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost
from ckptgrad.target.remember import remembered
from ckptgrad.target.target import Target


@dataclass(frozen=True)
class Place:
    """What surrounds a stage in its chain.

    Attributes:
        stays: whether the stage before may read the incoming boundary after this stage's backward.
        summed: the positions among the stage's gradients of those that are added to others.
        starting: the positions of those that are held, waiting for others.
    """

    stays: bool
    summed: tuple[int, ...]
    starting: tuple[int, ...]


def compiled_costs(program: Program) -> ChainCosts:
    """Estimated costs, with transients from the compiler's buffer assignment of each distinct stage.

    Estimates stay for stages with loops, which have many options: what these hold follows from how they are reversed. They
    also stay for stages on several devices, whose bytes are those of all devices together.

    Raises:
        OptionError: nothing here compiles for the program's target.
    """
    program.target.check_compiles()
    costs = estimated_costs(program)
    places = _places(program, costs)
    pairs = [(stage.kind, place) for stage, place in zip(program.stages, places, strict=True)]
    _compile({pair for pair in pairs if pair[0].stands_alone})
    seen: dict[tuple[Any, ...], StageCost] = {}
    stages: list[StageCost] = []
    for i, ((kind, place), cost) in enumerate(zip(pairs, costs.stages, strict=True)):
        beside = costs.boundary_bytes(i), costs.cotangent_bytes(i)
        key = (id(kind), id(cost), place, *beside)
        if key not in seen:
            seen[key] = _probed_stage(kind, place, cost, *beside) if kind.stands_alone else cost
        stages.append(seen[key])
    return replace(costs, stages=tuple(stages))


def count_probes(program: Program) -> int:
    """The number of programs that `compiled_costs` compiles at most."""
    return sum(1 + 3 * len(kind.options) for kind in program.kinds if kind.stands_alone)


def _places(program: Program, costs: ChainCosts) -> list[Place]:
    stays = [any(o.reads_output for o in stage.options) for stage in costs.stages]
    return [Place(*p) for p in zip([False, *stays[:-1]], program.summed, program.starting, strict=True)]


def _probed_stage(kind: StageKind, place: Place, cost: StageCost, boundary: int, leaving: int) -> StageCost:
    taken = _probed(kind)
    options: list[SaveOption] = []
    for k, option in enumerate(cost.options):
        held = boundary + cost.boundary_bytes + option.residual_bytes
        forward = max(0, taken["forward", k] - held)
        backward = taken["backward", k, place] - _given_bytes(kind, k, place) - leaving
        hidden = max(0, taken["hidden", k] + cost.boundary_bytes - held - forward)
        options.append(replace(option, forward_transient=forward, backward_transient=backward, hidden_bytes=hidden))
    plain = max(0, taken["forward", -1] - boundary - cost.boundary_bytes)
    return replace(cost, options=tuple(options), forward_transient=plain)


def _given_bytes(kind: StageKind, k: int, place: Place) -> int:
    """Bytes of the operands of option `k`'s backward that a plan counts as held."""
    totals = [kind.graph.inputs[kind.wrt[p]] for p in place.summed]
    return kind.target.total_bytes([*_held_outside(kind, k, place), *kind.joint.cotangents, *totals])


def _arriving(kind: StageKind) -> list[Variable]:
    return [kind.joint.inputs[i] for i in kind.boundary_in]


def _held_outside(kind: StageKind, k: int, place: Place) -> list[Variable]:
    """The residuals and boundaries that the backward of option `k` reads last.

    The incoming boundary is read by the backward of the stage before too, if that reads its output; otherwise nothing needs
    it after this backward.
    """
    option = kind.options[k]
    own = {*private_residuals(kind, option), *kind.outputs_kept}
    own |= set() if place.stays else {*_arriving(kind)}
    return [v for v in (*option.partition.residuals, *option.partition.reads) if v in own]


# What tells the programs of a kind apart: forward, backward or hidden, the option, the place.
_Key = tuple[Any, ...]


def _nothing_probed(kind: StageKind) -> dict[_Key, int]:
    return {}


# Bytes of temporaries of the programs of a kind.
_probed = PerKind(_nothing_probed)


def _compile(pairs: Collection[tuple[StageKind, Place]]) -> None:
    """Compile the programs of each kind of stage in each place, a few at a time."""
    jobs: dict[tuple[StageKind, _Key], jax.stages.Lowered] = {}
    for kind, place in pairs:
        known = _probed(kind)
        for k in range(-1, len(kind.options)):
            programs: dict[_Key, Callable[[], jax.stages.Lowered]] = {("forward", k): partial(_lower_forward, kind, k)}
            if k >= 0:
                programs["hidden", k] = partial(_lower_forward, kind, k, output=False)
                programs["backward", k, place] = partial(_lower_backward, kind, k, place)
            for key, lower in programs.items():
                if key not in known and (kind, key) not in jobs:
                    jobs[kind, key] = lower()
    with ThreadPoolExecutor() as pool:
        targets = [kind.target for kind, _ in jobs]
        for (kind, key), taken in zip(jobs, pool.map(_temporary_bytes, targets, jobs.values()), strict=True):
            _probed(kind)[key] = taken


def _temporary_bytes(target: Target, lowered: jax.stages.Lowered) -> int:
    def measure() -> float:
        return target.allocated(target.compile_probe(lowered)).temporary_bytes

    return int(remembered(target, "bytes of temporaries", lowered.as_text(), measure))


def _lower_forward(kind: StageKind, k: int, output: bool = True) -> jax.stages.Lowered:
    part = kind.plain if k < 0 else kind.options[k].partition
    run, call = stage_functions(kind).forward(None if k < 0 else k, output=output)
    own = {*_arriving(kind)}
    used = {*kind.outputs_kept, *part.residuals}

    def program(values: Sequence[Any]) -> Any:
        made = dict(zip(run.makes, call(values), strict=True))
        arriving = [x for v, x in zip(run.reads, values, strict=True) if v in own]
        # The incoming boundary is held besides what is made of it.
        consumed = [*arriving, *(x for v, x in made.items() if v in used)]
        return consume(consumed, kind.target.platform.isolation), [x for v, x in made.items() if v not in used]

    return _lower(kind.target, program, [struct(v.aval) for v in run.reads], [v in own for v in run.reads])


def _lower_backward(kind: StageKind, k: int, place: Place) -> jax.stages.Lowered:
    run, call = stage_functions(kind).backward(k, place.summed)
    gradients, cotangents = kind.joint.gradients, {*kind.joint.cotangents}
    own = {*_held_outside(kind, k, place), *cotangents}
    summed = [gradients[p] for p in place.summed]
    used = {*kind.crossing, *(gradients[p] for p in place.starting)}
    count = len(run.reads)

    def program(values: Sequence[Any]) -> Any:
        made = call((values[:count], values[count:]))
        others = len(made) - len(summed)
        held = [v in used for v in run.makes[:others]] + [True] * len(summed)
        pairs = list(zip(made, held, strict=True))
        # Gradients of arguments are results of the whole program.
        return consume([x for x, h in pairs if h], kind.target.platform.isolation), [x for x, h in pairs if not h]

    structs = [cotangent_struct(v.aval) if v in cotangents else struct(v.aval) for v in run.reads]
    structs += [cotangent_struct(a.aval) for a in summed]  # type: ignore[union-attr]
    return _lower(kind.target, program, structs, [v in own for v in run.reads] + [True] * len(summed))


def _lower(target: Target, program: Any, structs: Sequence[Any], made: Sequence[bool]) -> jax.stages.Lowered:
    """A program of values that are arguments, or made inside."""
    isolation = target.platform.isolation
    inside = [i for i, m in enumerate(made) if m and is_plain(structs[i])]
    places = set(inside)
    made_types = [structs[i] for i in inside]

    def run(numbers: Sequence[Any], arguments: Sequence[Any]) -> Any:
        rest, values = iter(arguments), iter(produce(made_types, numbers, isolation))
        return program([next(values) if i in places else next(rest) for i in range(len(structs))])

    arguments = [s for i, s in enumerate(structs) if i not in places]
    return target.lower(jax.jit(run), fillings(made_types, isolation), arguments)
