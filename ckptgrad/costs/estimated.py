"""What each stage costs, in bytes and seconds, estimated for the target of a program.

Bytes of boundaries and residuals are exact. Transients follow `target.footprint`, seconds `target.roofline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ckptgrad.chain.kind import Option, StageKind, private_residuals
from ckptgrad.chain.program import Program
from ckptgrad.chain.totals import in_place
from ckptgrad.chain.waiting import waiting_bytes
from ckptgrad.costs.hosted import with_hosted
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.uncollected import uncollected
from ckptgrad.planning.costs import ChainCosts, SaveOption, StageCost
from ckptgrad.stage.partition import partition
from ckptgrad.target.footprint import peak_inside
from ckptgrad.target.roofline import Roofline


@uncollected()
def estimated_costs(program: Program, *, keep_all: bool = False) -> ChainCosts:
    """The planner's view of a program, without compiling anything.

    With `keep_all` each stage has one option, that of reverse mode without a plan: to keep all that its backward reads.
    """
    costs = costs_of_stages(program, keep_all=keep_all)
    return costs if keep_all else with_hosted(program, costs)


def costs_of_stages(program: Program, *, keep_all: bool = False) -> ChainCosts:
    """As `estimated_costs`, each stage with what it takes alone (`costs.hosted`).

    Values that live across several stages, and gradients that wait to be added to others, are held while the backward
    is at certain boundaries: they are counted with the cotangents of these.
    """
    target, roofline = program.target, Roofline(program.target)
    by_kind: dict[tuple[Any, ...], StageCost] = {}
    stages: list[StageCost] = []
    between = waiting_bytes(program)
    for i, (stage, summed) in enumerate(zip(program.stages, program.summed, strict=True)):
        key = (id(stage.kind), summed, program.starting[i], between[i], between[i + 1])
        if key not in by_kind:
            started, *terms = (
                target.total_bytes(program.gradient_of(stage.differentiated[k]) for k in ks)
                for ks in (program.starting[i], *((k,) for k in summed))
            )
            choices = _keep_all(stage.kind) if keep_all else stage.kind.options
            cost = _stage_cost(stage.kind, roofline, choices, dict(zip(summed, terms, strict=True)))
            options = tuple(replace(o, backward_transient=o.backward_transient + started - between[i]) for o in cost.options)
            by_kind[key] = replace(cost, options=options, cotangent_bytes=cost.cotangent_bytes + between[i + 1])
        stages.append(by_kind[key])
    return ChainCosts(tuple(stages), 0, between[0], program.output_bytes + program.gradient_bytes)


def _keep_all(kind: StageKind) -> list[Option]:
    """What is read is kept and nothing is done twice; stages with loops as they keep most."""
    if kind.has_loops:
        return kind.options[:1]
    return [Option("everything", partition(kind.joint, kind.joint.frontier))]


def _stage_cost(kind: StageKind, roofline: Roofline, choices: Sequence[Option], terms: Mapping[int, int]) -> StageCost:
    """The costs of one kind of stage, alone; `terms` are the bytes of gradients that are added to others, by position."""
    j = kind.joint
    boundary = kind.outputs_kept
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    plain = kind.plain.forward_operations
    boundary_bytes = kind.target.total_bytes(boundary)
    crossing = (j.cotangents[k] for k, i in enumerate(kind.seeds) if i in set(kind.boundary_out))
    forward = roofline.seconds(plain, outputs)
    forward_peak = peak_inside(plain, j.inputs, outputs, kind.target)
    options = tuple(_save_option(kind, o, boundary, roofline, forward, terms) for o in choices)
    return StageCost(
        options, boundary_bytes, kind.target.total_bytes(crossing), forward, max(0, forward_peak - boundary_bytes)
    )


def _save_option(
    kind: StageKind,
    option: Option,
    boundary: Sequence[Variable],
    roofline: Roofline,
    plain: float,
    terms: Mapping[int, int],
) -> SaveOption:
    part, j = option.partition, kind.joint
    incoming = {j.inputs[i] for i in kind.boundary_in}
    outputs = [v for v in j.outputs if isinstance(v, Variable)]
    private = private_residuals(kind, option)
    kept = list(dict.fromkeys([*outputs, *private]))
    residual_bytes = kind.target.total_bytes(private)
    boundary_bytes = kind.target.total_bytes(boundary)

    late = part.joint.late
    gradients = [*(g for g in j.gradients if isinstance(g, Variable)), *late]
    added = [g for k in terms if (g := j.gradients[k]) is not None]
    sums = in_place(part.backward_run.operations, added, {*gradients}.difference(added))
    back = sums.operations
    beside = sum(size for k, size in terms.items() if j.gradients[k] not in sums.totals)
    flowing = kind.crossing
    # Gradients of arguments are outputs of the whole program, counted there, as late outputs are.
    arriving = {g for g in gradients if g not in set(flowing)}
    # What is kept is dropped at its last use; the cotangent is too, but whether it is overwritten is the compiler's choice.
    held_anyway = {*part.residuals, *part.reads, *j.cotangents, *arriving, *sums.totals.values()} - {*private}
    inner = peak_inside(back, held_anyway, flowing, kind.target, private) - kind.target.total_bytes(flowing) - residual_bytes
    forward = peak_inside(part.forward_operations, j.inputs, kept, kind.target) - boundary_bytes - residual_bytes
    unseen = part.forward_run(unwanted=boundary).operations
    hidden = peak_inside(unseen, j.inputs, private, kind.target) - residual_bytes
    seconds = roofline.seconds(part.forward_operations, kept)
    return SaveOption(
        option.name,
        residual_bytes,
        reads_input=any(v in incoming for v in part.reads),
        reads_output=any(v in boundary for v in part.residuals),
        forward_time=seconds,
        backward_time=roofline.seconds(back, gradients),
        forward_transient=max(0, forward),
        backward_transient=max(0, inner) + beside,
        hidden_bytes=max(0, hidden - max(0, forward)),
        output_time=min(max(0.0, seconds - roofline.seconds(unseen, private)), plain),
    )
