"""What each stage costs, in bytes and estimated seconds, for the planner.

Bytes of boundaries and residuals are exact.  Transients follow `footprint`, times `machine`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ckptgrad.chain.footprint import peak_inside
from ckptgrad.chain.machine import Machine
from ckptgrad.chain.program import Option, Program, StageKind
from ckptgrad.graph.graph import Variable
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost


def chain_costs(program: Program, machine: Machine | None = None) -> ChainCosts:
    """The planner's view of a program."""
    machine = machine or Machine.of()
    by_kind: dict[tuple, StageCost] = {}
    stages = []
    for stage, summed in zip(program.stages, program.summed, strict=True):
        key = (id(stage.kind), summed)
        if key not in by_kind:
            by_kind[key] = stage_cost(stage.kind, machine, sum(stage.differentiated[k].nbytes for k in summed))
        stages.append(by_kind[key])
    return ChainCosts(tuple(stages), 0, 0, program.output_bytes + program.gradient_bytes + _held(program))


def _held(program: Program) -> int:
    """Bytes of what is held throughout: values that several stages read, and gradients that are summed."""
    totals = {stage.differentiated[k] for stage, ks in zip(program.stages, program.summed, strict=True) for k in ks}
    return sum(v.nbytes for v in program.held) + sum(v.nbytes for v in totals)


def stage_cost(kind: StageKind, machine: Machine, summed: int = 0) -> StageCost:
    """The costs of one kind of stage; `summed` bytes of gradients are added to others in its backward."""
    j = kind.joint
    boundary = kind.outputs_kept
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    plain = kind.plain.forward_operations
    boundary_bytes = sum(v.nbytes for v in boundary)
    cotangent = sum(j.cotangents[k].nbytes for k, i in enumerate(kind.seeds) if i in set(kind.boundary_out))
    forward = machine.seconds(plain, outputs)
    forward_peak = peak_inside(plain, j.inputs, outputs)
    options = tuple(_save_option(kind, o, boundary, machine, summed) for o in kind.options)
    return StageCost(options, boundary_bytes, cotangent, forward, max(0, forward_peak - boundary_bytes))


def private_residuals(kind: StageKind, option: Option) -> list[Variable]:
    """What an option keeps beside the boundaries of its stage."""
    shared = {*kind.outputs_kept, *(kind.joint.inputs[i] for i in kind.boundary_in)}
    return [v for v in option.partition.residuals if v not in shared]


def _save_option(
    kind: StageKind, option: Option, boundary: Sequence[Variable], machine: Machine, summed: int
) -> SaveOption:
    part, j = option.partition, kind.joint
    incoming = {j.inputs[i] for i in kind.boundary_in}
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    private = private_residuals(kind, option)
    kept = list(dict.fromkeys([*outputs, *private]))
    residual_bytes = sum(v.nbytes for v in private)
    boundary_bytes = sum(v.nbytes for v in boundary)

    back = [*part.recomputed, *j.backward_operations]
    gradients = [g for g in j.gradients if isinstance(g, Variable)]
    flowing = kind.crossing
    # Gradients of arguments are outputs of the whole program, counted there.
    arriving = {g for g in gradients if g not in set(flowing)}
    # Matrices are dropped or overwritten at their last use; what is seen through views stays longer.
    consumed = [v for v in private if len(v.shape) <= 2]
    given = ({*part.residuals, *part.reads, *j.cotangents, *arriving}) - set(consumed)
    inner = peak_inside(back, given, flowing, consumed)
    inner -= sum(v.nbytes for v in flowing) + sum(v.nbytes for v in consumed)
    return SaveOption(
        option.name,
        residual_bytes,
        reads_input=any(v in incoming for v in part.reads),
        reads_output=any(v in boundary for v in part.residuals),
        forward_time=machine.seconds(part.forward_operations, kept),
        backward_time=machine.seconds(back, gradients),
        forward_transient=max(0, peak_inside(part.forward_operations, j.inputs, kept) - boundary_bytes - residual_bytes),
        backward_transient=max(0, inner) + summed,
    )
