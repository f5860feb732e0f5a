"""What XLA allocates for one stage: its forward and backward compiled alone.

What the stage is given and what it returns pass through callbacks that are compiled and never run, so that all of it
counts as temporaries, lives as long as in a whole program, and is overwritten where XLA would overwrite it.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    `plain` is the forward that keeps nothing; `forward` and `backward` have one entry a save option.
    """

    plain: int
    forward: tuple[int, ...]
    backward: tuple[int, ...]


def probed_costs(program: Program, costs: ChainCosts) -> ChainCosts:
    """The same costs with transients from XLA's buffer assignment of each distinct stage."""
    probes = probe_kinds(program)
    seen: dict[tuple, StageCost] = {}
    stages = []
    sums = accumulated_bytes(program)
    for i, (stage, cost) in enumerate(zip(program.stages, costs.stages, strict=True)):
        beside = costs.boundary_bytes(i), costs.cotangent_bytes(i), sums[i]
        key = (id(stage.kind), id(cost), *beside)
        if key not in seen:
            seen[key] = _probed_stage(stage.kind, cost, probes[stage.kind], *beside)
        stages.append(seen[key])
    return replace(costs, stages=tuple(stages))


def _probed_stage(kind: StageKind, cost: StageCost, probe: Probe, boundary: int, leaving: int, summed: int) -> StageCost:
    held = boundary + cost.boundary_bytes
    options = []
    for k, option in enumerate(cost.options):
        kept = _private_bytes(kind, k)
        beside = kept + cost.cotangent_bytes
        inner = max(probe.backward[k] - beside - leaving, -leaving, -beside)
        forward = max(0, probe.forward[k] - held - kept)
        # A sum holds the new term and the new sum beside the old one.
        backward = max(inner + summed, 2 * summed - beside)
        options.append(replace(option, forward_transient=forward, backward_transient=backward))
    return replace(cost, options=tuple(options), forward_transient=max(0, probe.plain - held))


def _private_bytes(kind: StageKind, k: int) -> int:
    """Bytes of the residuals that the stage function returns beside the boundary."""
    shared = _boundaries(kind)
    return sum(v.nbytes for v in kind.options[k].partition.residuals if v not in shared)


def _boundaries(kind: StageKind) -> set[Variable]:
    """The values of the boundaries before and behind a stage, which others hold."""
    return {*kind.outputs_kept, *(kind.joint.inputs[i] for i in kind.boundary_in)}


def probe_kinds(program: Program) -> dict[StageKind, Probe]:
    """Compile each distinct stage's programs, a few at a time."""
    settled = {stage.kind: flows_on(program, i) for i, stage in reversed(list(enumerate(program.stages)))}
    jobs: dict[tuple[StageKind, str, int], Any] = {}
    for kind in program.kinds:
        known = kind.attached.setdefault("probes", {})
        wanted = [("forward", -1), *((way, k) for way in ("forward", "backward") for k in range(len(kind.options)))]
        for way, k in wanted:
            if (way, k, settled[kind]) not in known:
                lower = _lower_forward if way == "forward" else _lower_backward
                jobs[kind, way, k] = lower(kind, k, settled[kind])
    with ThreadPoolExecutor() as pool:
        found = pool.map(_temporary_bytes, jobs.values())
        for (kind, way, k), taken in zip(jobs, found, strict=True):
            kind.attached["probes"][way, k, settled[kind]] = taken
    return {kind: _probe(kind, settled[kind]) for kind in program.kinds}


def _temporary_bytes(lowered: Any) -> int:
    def measure() -> float:
        return compiled_memory(lowered.compile()).temporary_bytes

    return int(remembered("bytes of temporaries", lowered.as_text(), measure))


def _probe(kind: StageKind, settled: bool) -> Probe:
    known, count = kind.attached["probes"], range(len(kind.options))
    return Probe(
        known["forward", -1, settled],
        tuple(known["forward", k, settled] for k in count),
        tuple(known["backward", k, settled] for k in count),
    )


def _lower_forward(kind: StageKind, k: int, settled: bool) -> Any:
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


def _lower_backward(kind: StageKind, k: int, settled: bool) -> Any:
    function = stage_functions(kind).backward(k)
    part = kind.options[k].partition
    variables = [*part.residuals, *part.reads, *part.joint.cotangents]
    given = [struct(v.aval) for v in (*part.residuals, *part.reads)]
    given += [struct(v.aval) for v in part.joint.cotangents]
    private: set[Variable] = ({*part.residuals} - _boundaries(kind)) | {*part.joint.cotangents}
    inside = [i for i, v in enumerate(variables) if v in private and _is_plain(given[i])]
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
