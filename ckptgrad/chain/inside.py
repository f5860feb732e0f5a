"""The values that a stage holds inside its forward and its backward."""

from __future__ import annotations

from ckptgrad.chain.kind import Option, StageKind, private_residuals
from ckptgrad.graph.graph import Variable, variables_of
from ckptgrad.target.footprint import values_beside, values_inside


def held_in_forward(kind: StageKind, option: Option | None, output: bool = True) -> list[Variable]:
    """What a forward holds at its worst moment beside what it reads, makes and keeps: an estimate.

    Args:
        kind: of stage.
        option: what it keeps; None: nothing.
        output: whether it makes the outgoing boundary.
    """
    part, joint = kind.plain if option is None else option.partition, kind.joint
    unwanted = () if output else kind.outputs_kept
    made = [*variables_of(joint.outputs), *([] if option is None else private_residuals(kind, option))]
    wanted = [v for v in made if v not in unwanted]
    values = values_inside(part.forward_run(unwanted=unwanted).operations, joint.inputs, wanted, kind.target)
    return [v for v in values if v not in {*made}]


def held_in_backward(kind: StageKind, option: Option) -> list[Variable]:
    """What the backward of an option holds at its worst moment beside what it reads and passes on: an estimate."""
    part, joint, flowing = option.partition, kind.joint, kind.crossing
    private = private_residuals(kind, option)
    arriving = {*variables_of(g for g in joint.gradients if g is not None)} - {*flowing}
    elsewhere = {*part.residuals, *part.reads, *joint.cotangents, *arriving} - {*private}
    values = values_inside(part.backward_run.operations, elsewhere, flowing, kind.target, private)
    return [v for v in values_beside(values, private) if v not in {*flowing, *private}]
