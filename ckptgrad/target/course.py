"""How the bytes that a run of operations holds go over time, operation by operation and step by step of planned loops."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.target.footprint import live_inside
from ckptgrad.target.roofline import Roofline

# Seconds, and bytes that are held for as long.
Course = list[tuple[float, int]]


def course_inside(
    operations: Sequence[Operation],
    held_outside: Collection[Variable],
    returned: Collection[Variable],
    roofline: Roofline,
    consumed: Collection[Variable] = (),
) -> Course:
    """The course of what a run of operations holds; arguments as of `footprint.peak_inside`."""
    course: Course = []
    live = live_inside(operations, held_outside, returned, roofline.target, consumed)
    for op, held in zip(operations, live, strict=True):
        inside = () if op.known_cost is None else op.known_cost.course()
        if op.known_cost is not None and inside:
            course += [(seconds, held - op.known_cost.bytes + bytes_) for seconds, bytes_ in inside]
        else:
            course.append((roofline.again(op), held))
    return course


def lifted(course: Sequence[tuple[float, int]], seconds: float, peak: int) -> Course:
    """A course that takes this long and has this peak: more, or less, is held all the time."""
    highest, total = max(bytes_ for _, bytes_ in course), sum(s for s, _ in course)
    longer = seconds / total if total else 0.0
    return [(s * longer, max(0, bytes_ + peak - highest)) for s, bytes_ in course]
