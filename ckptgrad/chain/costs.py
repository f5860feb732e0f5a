"""What each stage costs, in bytes and estimated seconds, for the planner.

Bytes of boundaries and residuals are exact.  Transients follow `footprint`.  Times are a roofline
with memory traffic: products at the machine's arithmetic rate, transcendental functions at
theirs, and every byte written to or read from memory at its bandwidth, because writing residuals
to fresh memory and reading them back is what makes "store everything" slow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import jax

from ckptgrad.chain.footprint import feeds_heavy_directly, peak_inside, stored_for, traffic
from ckptgrad.chain.program import Option, Program, StageKind
from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.graph.work import TRANSCENDENTAL, flops, is_heavy
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost


@dataclass(frozen=True)
class Machine:
    """Rates of a device, for estimates.

    Attributes:
        product_rate: floating point operations a second in products.
        element_rate: elementwise operations a second.
        transcendental_rate: exp, tanh and the like a second.
        write_rate: bytes a second written to fresh memory.
        read_rate: bytes a second read.
    """

    product_rate: float
    element_rate: float
    transcendental_rate: float
    write_rate: float
    read_rate: float

    @classmethod
    def of(cls, platform: str | None = None) -> Machine:
        """Rates of a typical machine of a platform; only their ratios matter to a plan."""
        return _TYPICAL.get(platform or jax.default_backend(), _TYPICAL["cpu"])


# Orders of magnitude: a few CPU cores with page faults on fresh memory; a data-centre accelerator.
_TYPICAL = {
    "cpu": Machine(1.2e11, 4e10, 3e9, 2.5e9, 1e10),
    "gpu": Machine(2e14, 2e13, 4e12, 2e12, 2e12),
    "tpu": Machine(1e14, 4e12, 1e12, 8e11, 8e11),
}
_TYPICAL["cuda"] = _TYPICAL["rocm"] = _TYPICAL["gpu"]


def chain_costs(program: Program, machine: Machine | None = None) -> ChainCosts:
    """The planner's view of a program."""
    machine = machine or Machine.of()
    shared = _shared_arguments(program)
    by_kind: dict[tuple, StageCost] = {}
    stages = []
    last = len(program.stages) - 1
    for i, stage in enumerate(program.stages):
        accumulated = sum(v.nbytes for v in stage.differentiated if v in shared)
        key = (id(stage.kind), accumulated, i == last)
        if key not in by_kind:
            by_kind[key] = stage_cost(stage.kind, machine, accumulated)
        stages.append(by_kind[key])
    return ChainCosts(tuple(stages), 0, 0, program.output_bytes + program.gradient_bytes + _held(program))


def _shared_arguments(program: Program) -> set[Variable]:
    """Differentiated arguments that several stages read: their gradients are summed."""
    readers: dict[Variable, int] = {}
    for stage in program.stages:
        for v in stage.differentiated:
            readers[v] = readers.get(v, 0) + 1
    return {v for v in program.wrt if readers.get(v, 0) > 1}


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
    forward = seconds(plain, outputs, machine)
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
        forward_time=seconds(part.forward_operations, kept, machine),
        backward_time=seconds(back, gradients, machine),
        forward_transient=max(0, peak_inside(part.forward_operations, j.inputs, kept) - boundary_bytes - residual_bytes),
        backward_transient=max(0, inner) + sum(v.nbytes for v in copies) + waiting + accumulated,
    )


def seconds(operations: Sequence[Operation], wanted: Collection[Variable], machine: Machine) -> float:
    """Estimated time of a run of operations that must produce `wanted` in memory."""
    total = 0.0
    for op in operations:
        if is_heavy(op):
            total += flops(op) / machine.product_rate
        elif op.name in TRANSCENDENTAL:
            total += flops(op) / machine.transcendental_rate
        else:
            total += flops(op) / machine.element_rate
    written, read = traffic(operations, wanted)
    return total + written / machine.write_rate + read / machine.read_rate
