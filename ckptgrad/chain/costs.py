"""What each stage costs, in bytes and estimated seconds, for the planner.

Bytes of boundaries and residuals are exact.  Transients follow `footprint`, times `machine`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ckptgrad.autodiff.joint import partition
from ckptgrad.chain.footprint import peak_inside
from ckptgrad.chain.machine import Machine
from ckptgrad.chain.program import Option, Program, StageKind
from ckptgrad.graph.graph import Variable
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost


def chain_costs(program: Program, machine: Machine | None = None, *, keep_all: bool = False) -> ChainCosts:
    """The planner's view of a program.

    With `keep_all` each stage has one option, that of reverse mode without a plan: to keep all that its backward reads.

    Values that live across several stages, and gradients that wait to be added to others, are held while the backward
    is at certain boundaries: they are counted with the cotangents of these.
    """
    machine = machine or Machine.of()
    by_kind: dict[tuple, StageCost] = {}
    stages, between = [], waiting_bytes(program)
    for i, (stage, summed) in enumerate(zip(program.stages, program.summed, strict=True)):
        key = (id(stage.kind), summed, program.starting[i], between[i], between[i + 1])
        if key not in by_kind:
            terms, started = (sum(stage.differentiated[k].nbytes for k in ks) for ks in (summed, program.starting[i]))
            cost = _stage_cost(stage.kind, machine, _keep_all(stage.kind) if keep_all else stage.kind.options)
            options = tuple(
                replace(o, backward_transient=o.backward_transient + terms + started - between[i]) for o in cost.options
            )
            by_kind[key] = replace(cost, options=options, cotangent_bytes=cost.cotangent_bytes + between[i + 1])
        stages.append(by_kind[key])
    return ChainCosts(tuple(stages), 0, between[0], program.output_bytes + program.gradient_bytes)


def waiting_bytes(program: Program) -> list[int]:
    """For each boundary, 0 to n, bytes of what is held besides while the backward is there: see `waiting`."""
    steps = [0] * (len(program.stages) + 2)
    for v, _, first, end in _waits(program):
        steps[first] += v.nbytes
        steps[end] -= v.nbytes
    return list(itertools.accumulate(steps))[: len(program.stages) + 1]


def waiting(program: Program, boundary: int) -> list[tuple[Variable, str]]:
    """What is held besides while the backward is at a boundary, and whether that is "boundaries" or "gradients".

    A value that crosses several boundaries until the backward of the first stage that reads it; a sum of gradients from
    that of the last one to that of the stage that made the value; sums for arguments until they are complete, and results
    of the program.
    """
    return [(v, kind) for v, kind, first, end in _waits(program) if first <= boundary < end]


def _waits(program: Program) -> Iterator[tuple[Variable, str, int, int]]:
    """What waits, its kind, and from which boundary to before which."""
    n = len(program.stages)
    for v in program.held:
        yield v, "boundaries", min(i for i, stage in enumerate(program.stages) if v in stage.inputs) + 1, n + 1
    maker = {v: i for i, stage in enumerate(program.stages) for v in stage.outputs}
    readers: dict[Variable, list[int]] = {}
    for i, (stage, summed, starting) in enumerate(zip(program.stages, program.summed, program.starting, strict=True)):
        for k in (*summed, *starting):
            readers.setdefault(stage.differentiated[k], []).append(i)
    for v, stages in readers.items():
        yield v, "gradients", maker.get(v, min(stages)) + 1, max(stages) + 1


def _keep_all(kind: StageKind) -> list[Option]:
    """What is read is kept and nothing is done twice; stages with loops as they keep most."""
    if kind.has_loops:
        return kind.options[:1]
    return [Option("everything", partition(kind.joint, kind.joint.frontier))]


def _stage_cost(kind: StageKind, machine: Machine, choices: Sequence[Option]) -> StageCost:
    """The costs of one kind of stage, alone."""
    j = kind.joint
    boundary = kind.outputs_kept
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    plain = kind.plain.forward_operations
    boundary_bytes = sum(v.nbytes for v in boundary)
    cotangent = sum(j.cotangents[k].nbytes for k, i in enumerate(kind.seeds) if i in set(kind.boundary_out))
    forward = machine.seconds(plain, outputs)
    forward_peak = peak_inside(plain, j.inputs, outputs)
    options = tuple(_save_option(kind, o, boundary, machine, forward) for o in choices)
    return StageCost(options, boundary_bytes, cotangent, forward, max(0, forward_peak - boundary_bytes))


def private_residuals(kind: StageKind, option: Option) -> list[Variable]:
    """What an option keeps beside the boundaries of its stage."""
    shared = {*kind.outputs_kept, *(kind.joint.inputs[i] for i in kind.boundary_in)}
    return [v for v in option.partition.residuals if v not in shared]


def _save_option(
    kind: StageKind, option: Option, boundary: Sequence[Variable], machine: Machine, plain: float
) -> SaveOption:
    part, j = option.partition, kind.joint
    incoming = {j.inputs[i] for i in kind.boundary_in}
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    private = private_residuals(kind, option)
    kept = list(dict.fromkeys([*outputs, *private]))
    residual_bytes = sum(v.nbytes for v in private)
    boundary_bytes = sum(v.nbytes for v in boundary)

    back = part.backward_run.operations
    gradients = [g for g in j.gradients if isinstance(g, Variable)]
    flowing = kind.crossing
    # Gradients of arguments are outputs of the whole program, counted there.
    arriving = {g for g in gradients if g not in set(flowing)}
    # What is kept is dropped at its last use; the cotangent is too, but whether it is overwritten is the compiler's choice.
    given = {*part.residuals, *part.reads, *j.cotangents, *arriving} - {*private}
    inner = peak_inside(back, given, flowing, private) - sum(v.nbytes for v in flowing) - residual_bytes
    forward = peak_inside(part.forward_operations, j.inputs, kept) - boundary_bytes - residual_bytes
    unseen = part.forward_run(unwanted=boundary).operations
    hidden = peak_inside(unseen, j.inputs, private) - residual_bytes
    seconds = machine.seconds(part.forward_operations, kept)
    return SaveOption(
        option.name,
        residual_bytes,
        reads_input=any(v in incoming for v in part.reads),
        reads_output=any(v in boundary for v in part.residuals),
        forward_time=seconds,
        backward_time=machine.seconds(back, gradients),
        forward_transient=max(0, forward),
        backward_transient=max(0, inner),
        hidden_bytes=max(0, hidden - max(0, forward)),
        output_time=min(max(0.0, seconds - machine.seconds(unseen, private)), plain),
    )
