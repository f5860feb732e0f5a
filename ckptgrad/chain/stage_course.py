"""How the scratch of one stage's forward or backward goes over time, where loops inside make it go up and down."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ckptgrad.chain.kind import StageKind, private_residuals
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.target.course import Course, course_inside
from ckptgrad.target.roofline import Roofline


def forward_course(kind: StageKind, keep: int | None) -> Course:
    """The course of a forward that keeps option `keep` (None: nothing); empty if there are no loops inside."""
    part = kind.plain if keep is None else kind.options[keep].partition
    kept = [] if keep is None else private_residuals(kind, kind.options[keep])
    outputs = variables_of(kind.joint.outputs)
    return _course(kind, part.forward_operations, kind.joint.inputs, [*outputs, *kept])


def backward_course(kind: StageKind, keep: int) -> Course:
    """The course of the backward from option `keep`; empty if there are no loops inside."""
    option = kind.options[keep]
    part, private = option.partition, private_residuals(kind, option)
    gradients = [*variables_of(g for g in kind.joint.gradients if g is not None), *part.joint.late]
    held = {*part.residuals, *part.reads, *kind.joint.cotangents, *gradients} - {*private}
    return _course(kind, part.backward_run.operations, held - {*kind.crossing}, kind.crossing, private)


def _course(
    kind: StageKind,
    operations: Sequence[Operation],
    held_outside: Collection[Variable],
    returned: Collection[Variable],
    consumed: Collection[Variable] = (),
) -> Course:
    if all(op.known_cost is None for op in operations):
        return []
    return course_inside(operations, held_outside, returned, Roofline(kind.target), consumed)
