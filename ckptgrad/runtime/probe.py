"""What XLA allocates for one stage: its forward and backward compiled alone.

What the stage is given and what it returns pass through callbacks that are compiled and never run, so that all of it
counts as temporaries, lives as long as in a whole program, and is overwritten where XLA would overwrite it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import dtypes

from ckptgrad.chain.costs import accumulated_bytes
from ckptgrad.chain.program import Program, StageKind
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.trace import struct
from ckptgrad.meters.xla import compiled_memory
from ckptgrad.planning.costs import ChainCosts, StageCost
from ckptgrad.runtime.compiled import flows_on, stage_functions
from ckptgrad.runtime.remember import remembered


@dataclass(frozen=True)
class Probe:
    """Temporaries in bytes of the programs of one kind of stage, what they are given and return included.

    `plain` is the forward that keeps nothing; `forward` and `backward` have one entry a save option, `given` the
    bytes of residuals and boundaries among what the backward is given and may overwrite.
    """

    plain: int
    forward: tuple[int, ...]
    backward: tuple[int, ...]
    given: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """What surrounds a stage in its chain.

    Attributes:
        settled: places in its outgoing boundary of values that are put in memory as they are made.
        stays: whether the stage before may read the incoming boundary after this stage's backward.
    """

    settled: frozenset[int]
    stays: bool


def probed_costs(program: Program, costs: ChainCosts) -> ChainCosts:
    """The same costs with transients from XLA's buffer assignment of each distinct stage."""
    places = [_place(program, costs, i) for i in range(len(program.stages))]
    probes = probe_kinds({(stage.kind, place) for stage, place in zip(program.stages, places, strict=True)})
    seen: dict[tuple, StageCost] = {}
    stages = []
    sums = accumulated_bytes(program)
    for i, (stage, cost) in enumerate(zip(program.stages, costs.stages, strict=True)):
        beside = costs.boundary_bytes(i), costs.cotangent_bytes(i), sums[i]
        key = (id(stage.kind), id(cost), places[i], *beside)
        if key not in seen:
            seen[key] = _probed_stage(stage.kind, cost, probes[stage.kind, places[i]], *beside)
        stages.append(seen[key])
    return replace(costs, stages=tuple(stages))


def _place(program: Program, costs: ChainCosts, i: int) -> Place:
    stays = i > 0 and any(o.reads_output for o in costs.stages[i - 1].options)
    return Place(flows_on(program, i), stays)


def _probed_stage(kind: StageKind, cost: StageCost, probe: Probe, boundary: int, leaving: int, summed: int) -> StageCost:
    held = boundary + cost.boundary_bytes
    options = []
    for k, option in enumerate(cost.options):
        beside = probe.given[k] + cost.cotangent_bytes
        inner = max(probe.backward[k] - beside - leaving, -leaving, -beside)
        forward = max(0, probe.forward[k] - held - _private_bytes(kind, k))
        # A sum holds the new term and the new sum beside the old one.
        backward = max(inner + summed, 2 * summed - beside)
        options.append(replace(option, forward_transient=forward, backward_transient=backward))
    return replace(cost, options=tuple(options), forward_transient=max(0, probe.plain - held))


def _private_bytes(kind: StageKind, k: int) -> int:
    """Bytes of the residuals that the stage function returns beside the boundary."""
    shared = {*kind.outputs_kept, *_arriving(kind)}
    return sum(v.nbytes for v in kind.options[k].partition.residuals if v not in shared)


def _arriving(kind: StageKind) -> set[Variable]:
    return {kind.joint.inputs[i] for i in kind.boundary_in}


def _given(kind: StageKind, k: int, place: Place) -> list[Variable]:
    """What the backward of option `k` is given and reads last: residuals and boundaries, but not arguments.

    The incoming boundary is read by the backward of the stage before too, if that reads its output; else nobody needs
    it after this backward.
    """
    part = kind.options[k].partition
    others = {*part.joint.inputs} - _arriving(kind)
    if place.stays:
        others |= _arriving(kind)
    return [v for v in (*part.residuals, *part.reads) if v not in others]


def probe_kinds(wanted: Collection[tuple[StageKind, Place]]) -> dict[tuple[StageKind, Place], Probe]:
    """Compile the programs of each kind of stage in each place, a few at a time."""
    jobs: dict[tuple, Any] = {}
    for kind, place in wanted:
        known = kind.attached.setdefault("probes", {})
        for key in _keys(kind, place):
            if key not in known and (kind, key) not in jobs:
                way, k = key[:2]
                if way == "forward":
                    jobs[kind, key] = _lower_forward(kind, k, place.settled)
                else:
                    jobs[kind, key] = _lower_backward(kind, k, _given(kind, k, place))
    with ThreadPoolExecutor() as pool:
        for (kind, key), taken in zip(jobs, pool.map(_temporary_bytes, jobs.values()), strict=True):
            kind.attached["probes"][key] = taken
    return {(kind, place): _probe(kind, place) for kind, place in wanted}


def _keys(kind: StageKind, place: Place) -> list[tuple[str, int, Any]]:
    """The programs of a kind in a place: way, option (-1: none) and what they depend on of the place."""
    count = len(kind.options)
    forward: list[tuple[str, int, Any]] = [("forward", k, place.settled) for k in range(-1, count)]
    return [*forward, *(("backward", k, place.stays) for k in range(count))]


def _temporary_bytes(lowered: Any) -> int:
    def measure() -> float:
        return compiled_memory(lowered.compile()).temporary_bytes

    return int(remembered("bytes of temporaries", lowered.as_text(), measure))


def _probe(kind: StageKind, place: Place) -> Probe:
    taken, count = [kind.attached["probes"][key] for key in _keys(kind, place)], len(kind.options)
    given = tuple(sum(v.nbytes for v in _given(kind, k, place)) for k in range(count))
    return Probe(taken[0], tuple(taken[1 : count + 1]), tuple(taken[count + 1 :]), given)


def _lower_forward(kind: StageKind, k: int, settled: frozenset[int]) -> Any:
    keep = None if k < 0 else k
    function = stage_functions(kind).forward(keep, False, settled)
    given = [struct(v.aval) for v in kind.joint.inputs]
    inside = [i for i in kind.boundary_in if _is_plain(given[i])]
    beyond = set(range(len(kind.joint.outputs))) - set(kind.boundary_out)

    def run(*arguments):
        values = _scattered(arguments, inside, _produce([given[i] for i in inside]))
        outputs, residuals = function(values, [])
        used = _consume([outputs[i] for i in kind.boundary_out] + list(residuals))
        return used, [outputs[i] for i in beyond]

    return jax.jit(run).lower(*[s for i, s in enumerate(given) if i not in inside])


def _lower_backward(kind: StageKind, k: int, own: Collection[Variable]) -> Any:
    function = stage_functions(kind).backward(k)
    part = kind.options[k].partition
    variables = [*part.residuals, *part.reads, *part.joint.cotangents]
    given = [struct(v.aval) for v in (*part.residuals, *part.reads)]
    given += [struct(v.aval) for v in part.joint.cotangents]
    made = {*own, *part.joint.cotangents}
    inside = [i for i, v in enumerate(variables) if v in made and _is_plain(given[i])]
    first, second = len(part.residuals), len(part.residuals) + len(part.reads)
    present = [v for v, g in zip(kind.wrt, kind.joint.gradients, strict=True) if g is not None]
    crossing = [n for n, i in enumerate(present) if i in kind.boundary_in]

    def run(*arguments):
        values = _scattered(arguments, inside, _produce([given[i] for i in inside]))
        found = function(values[:first], values[first:second], values[second:])
        used = _consume([found[n] for n in crossing])
        return used, [g for n, g in enumerate(found) if n not in crossing]

    return jax.jit(run).lower(*[s for i, s in enumerate(given) if i not in inside])


def _scattered(arguments: Sequence[Any], inside: Sequence[int], made: Sequence[Any]) -> list[Any]:
    """Arguments with made values put at the positions `inside`."""
    rest, made_ = iter(arguments), iter(made)
    places = set(inside)
    return [next(made_) if i in places else next(rest) for i in range(len(arguments) + len(places))]


def _is_plain(aval: Any) -> bool:
    return dtypes.issubdtype(aval.dtype, np.generic) and aval.size > 0


def _produce(structs: Sequence[Any]) -> list[Any]:
    return list(jax.pure_callback(_never, list(structs))) if structs else []


def _consume(values: Sequence[Any]) -> Any:
    plain = [v for v in values if _is_plain(v)]
    return jax.pure_callback(_never, jax.ShapeDtypeStruct((), np.float32), *plain) if plain else ()


def _never(*_: Any) -> Any:
    raise AssertionError("a probe is compiled, never run")
