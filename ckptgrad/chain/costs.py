"""What each stage costs, in bytes and estimated seconds, for the planner.

Bytes of boundaries and residuals are exact.  Transients follow `footprint`, times `machine`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.chain.footprint import feeds_heavy_directly, last_work, peak_inside, stored_for
from ckptgrad.chain.machine import Machine
from ckptgrad.chain.program import Option, Program, StageKind
from ckptgrad.graph.graph import Variable
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost


def chain_costs(program: Program, machine: Machine | None = None) -> ChainCosts:
    """The planner's view of a program."""
    machine = machine or Machine.of()
    by_kind: dict[tuple, StageCost] = {}
    stages = []
    last = len(program.stages) - 1
    for i, (stage, accumulated) in enumerate(zip(program.stages, accumulated_bytes(program), strict=True)):
        key = (id(stage.kind), accumulated, i == last)
        if key not in by_kind:
            by_kind[key] = stage_cost(stage.kind, machine, accumulated)
        stages.append(by_kind[key])
    return ChainCosts(tuple(stages), 0, 0, program.output_bytes + program.gradient_bytes + _held(program))


def accumulated_bytes(program: Program) -> list[int]:
    """For each stage the bytes of gradients of arguments that other stages read too: they are summed."""
    readers: dict[Variable, int] = {}
    for stage in program.stages:
        for v in stage.differentiated:
            readers[v] = readers.get(v, 0) + 1
    shared = {v for v in program.wrt if readers.get(v, 0) > 1}
    return [sum(v.nbytes for v in stage.differentiated if v in shared) for stage in program.stages]


def _held(program: Program) -> int:
    """Bytes of long-lived values; twice where several stages send back a gradient to be summed."""
    differentiated = {v for stage in program.stages for v in stage.differentiated}
    return sum(v.nbytes * (2 if n > 1 and v in differentiated else 1) for v, n in program.held.items())


def stage_cost(kind: StageKind, machine: Machine, accumulated: int = 0) -> StageCost:
    """The costs of one kind of stage; `accumulated` bytes of gradients are summed in its backward."""
    j = kind.joint
    boundary = kind.outputs_kept
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    plain = kind.plain.forward_operations
    boundary_bytes = sum(v.nbytes for v in boundary)
    cotangent = sum(j.cotangents[k].nbytes for k, i in enumerate(kind.seeds) if i in set(kind.boundary_out))
    forward = machine.seconds(plain, outputs)
    forward_peak = peak_inside(plain, j.inputs, outputs)
    entry = [j.inputs[i] for i in kind.entry]
    options = tuple(_save_option(kind, o, boundary, machine, accumulated) for o in kind.options)
    return StageCost(
        options,
        boundary_bytes,
        cotangent,
        forward,
        max(0, forward_peak - boundary_bytes),
        sum(v.nbytes for v in entry if feeds_heavy_directly(plain, v)),
    )


def _save_option(
    kind: StageKind, option: Option, boundary: Sequence[Variable], machine: Machine, accumulated: int
) -> SaveOption:
    part, j = option.partition, kind.joint
    incoming = {j.inputs[i] for i in kind.boundary_in}
    outgoing = set(boundary)
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    stored = stored_for(part.forward_operations, part.residuals, outputs, {*j.inputs} - incoming)
    private = [v for v in stored if v not in outgoing and v not in incoming]
    kept = list(dict.fromkeys([*outputs, *private]))
    residual_bytes = sum(v.nbytes for v in private)
    boundary_bytes = sum(v.nbytes for v in boundary)

    back = [*part.recomputed, *j.backward_operations]
    gradients = [g for g in j.gradients if isinstance(g, Variable)]
    flowing = kind.crossing
    flowing_bytes = sum(v.nbytes for v in flowing)
    # Gradients of arguments are outputs of the whole program, counted there.
    arriving = {g for g in gradients if g not in set(flowing)}
    # Matrices are dropped or overwritten at their last use; what is seen through views stays longer.
    consumed = [v for v in private if len(v.shape) <= 2 and v in part.residuals]
    given = ({*part.residuals, *part.reads, *j.cotangents, *arriving}) - set(consumed)
    # Put in memory, a sum of few arrays may be written over one of them, but what reads statistics of rows too may not.
    settled = flowing_bytes if last_work(back, flowing) and not last_work(back, flowing, 3) else 0
    inner = peak_inside(back, given, flowing, consumed) - flowing_bytes - sum(v.nbytes for v in consumed)
    guarded = [j.inputs[i] for i in kind.entry]
    # A cotangent that must wait for the other gradients is copied.
    waiting = flowing_bytes if kind.flows_free and len(gradients) > len(flowing) else 0
    copies = [v for v in part.restart_values(guarded) if feeds_heavy_directly(part.recomputed, v)]
    return SaveOption(
        option.name,
        residual_bytes,
        reads_input=any(v in incoming for v in (*part.reads, *stored)),
        reads_output=any(v in outgoing for v in stored),
        forward_time=machine.seconds(part.forward_operations, kept),
        backward_time=machine.seconds(back, gradients),
        forward_transient=max(0, peak_inside(part.forward_operations, j.inputs, kept) - boundary_bytes - residual_bytes),
        backward_transient=max(0, inner) + sum(v.nbytes for v in copies) + waiting + settled + accumulated,
    )
