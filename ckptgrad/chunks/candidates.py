"""Which loops over chunks are offered for a stage: one more kind of save option, which holds little inside."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ckptgrad.axes.chunked import Chunkable, chunkable
from ckptgrad.axes.followed import Place, followed
from ckptgrad.axes.proposed import proposals
from ckptgrad.chunks.chunked import chunked_joint
from ckptgrad.chunks.markers import ONE_PASS, Floors, loop_of, with_costs
from ckptgrad.graph.graph import Graph, Variable, variables_of
from ckptgrad.stage.joint import Joint
from ckptgrad.stage.partition import Partition, partition
from ckptgrad.target.footprint import peak_inside
from ckptgrad.target.roofline import Roofline

# About these numbers of chunks are tried, for at most so many axes of a stage, and so many offered.
COUNTS = (2, 4, 8, 16, 32, 64)
MOST_AXES, MOST_OFFERED = 2, 6
MOST_CHUNKS = COUNTS[-1]
# More chunks are worth it if they hold this much less inside.
WORTH = 0.9


@dataclass(frozen=True)
class _Candidate:
    name: str
    part: Partition
    bytes: int
    seconds: float


def chunked_choices(
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Variable],
    whole: Partition,
    roofline: Roofline,
    last: bool = False,
    forbidden: Collection[tuple[Variable, int]] = (),
    arriving: Collection[Variable] = (),
) -> list[tuple[str, Partition]]:
    """Partitions of joint graphs whose operations run over chunks, from few chunks to many, each with its name.

    They keep what the backward of the totals reads, and the incoming boundary.

    Args:
        graph: the forward graph of the stage.
        wrt, seeds: what it is differentiated with respect to, and the outputs that receive a cotangent.
        whole: the stage run whole, keeping nothing; loops over chunks are not taken to be any faster.
        roofline: the rates by which they are timed.
        last: whether nothing reads the outputs before the backward, so that one pass may make both.
        forbidden: axes of inputs that stay whole.
        arriving: inputs that other stages make.
    """
    if not wrt or not seeds:
        return []
    parameters = [v for v in wrt if v not in arriving]
    candidates = [
        c for f in cuttable(graph, forbidden, parameters) for c in _candidates(graph, wrt, seeds, f, whole, roofline, last)
    ]
    kept: list[_Candidate] = []
    for c in sorted(candidates, key=lambda c: (c.seconds, c.bytes)):
        if not kept or c.bytes < WORTH * kept[-1].bytes:
            kept.append(c)
    return [(c.name, c.part) for c in kept[-MOST_OFFERED:]]


def cuttable(
    graph: Graph, forbidden: Collection[tuple[Variable, int]] = (), parameters: Collection[Variable] = ()
) -> list[Chunkable]:
    """Ways to run a graph over chunks of an axis that prove and are worth trying, the best first.

    Args:
        graph: the forward graph of a stage.
        forbidden: axes of its inputs that stay whole, and so do those inside to which these go.
        parameters: inputs whose axes are tried last (`axes.proposed`).
    """
    if any(op.effects for op in graph.operations):
        return []
    whole = {*followed(graph.operations, dict.fromkeys(forbidden), merged=True)} if forbidden else set[Place]()
    starts = [start for start in proposals(graph, parameters) if whole.isdisjoint(start.items())]
    found = (f for start in starts if (f := chunkable(graph, start)) is not None and whole.isdisjoint(axes_cut(f)))
    return [*itertools.islice(found, MOST_AXES)]


def axes_cut(found: Chunkable) -> list[Place]:
    """The axes along which values of a graph are cut where they enter a loop over chunks."""
    copied = {op.outputs[0]: op.inputs[0] for op in found.before if op.name == "copy"}
    places: list[Place] = []
    for v, axis in found.sliced.items():
        source = copied.get(v, v)
        places += [(source, axis)] if isinstance(source, Variable) else []
    return places


def _candidates(
    graph: Graph,
    wrt: Sequence[Variable],
    seeds: Sequence[Variable],
    found: Chunkable,
    whole: Partition,
    roofline: Roofline,
    last: bool,
) -> Iterator[_Candidate]:
    gradients = variables_of(g for g in whole.joint.gradients if g is not None)
    once = [*whole.joint.forward_operations, *whole.joint.backward_operations]
    near = roofline.target.platform.near_memory  # What chunks keep near is moved no more: they may be faster than the whole.
    floors = (
        Floors()
        if near
        else Floors(
            roofline.seconds(whole.forward_operations, variables_of(whole.joint.outputs)),
            roofline.seconds(whole.backward_run.operations, gradients),
            roofline.seconds(once, gradients),
        )
    )
    joints: dict[int, Joint] = {}
    for entries in _sizes(found.size):
        joint = chunked_joint(graph, wrt, seeds, found, entries, whole.joint, joints, last)
        if joint is None:
            return
        part = _keeping_totals(with_costs(joint, roofline, floors))
        bytes_, seconds = _figures(part, roofline)
        passes = ", in one pass" if any(op.name == ONE_PASS for op in joint.operations) else ""
        yield _Candidate(f"{-(-found.size // entries)} chunks of {entries}{passes}", part, bytes_, seconds)


def _figures(part: Partition, roofline: Roofline) -> tuple[int, float]:
    """The bytes that a stage holds inside at its worst moment, besides its results; seconds.

    What is done before and after the loop is included.
    """
    joint, back = part.joint, part.backward_run.operations
    outputs = [*variables_of(joint.outputs), *part.residuals]
    gradients = [*variables_of(g for g in joint.gradients if g is not None), *joint.late]
    given = {*joint.inputs, *joint.cotangents, *part.residuals}
    target = roofline.target
    held = max(
        peak_inside(part.forward_operations, joint.inputs, outputs, target) - target.total_bytes(outputs),
        peak_inside(back, given, gradients, target) - target.total_bytes(gradients),
    )
    return held, roofline.seconds(part.forward_operations, outputs) + roofline.seconds(back, gradients)


def _sizes(size: int) -> list[int]:
    """Entries of a chunk, from most to fewest: divisors of the number of entries where there are some near."""
    sizes: list[int] = []
    for count in COUNTS:
        if count > size:
            break
        near = [d for d in range(count, min(size, (3 * count) // 2) + 1) if size % d == 0]
        sizes.append(size // near[0] if near else -(-size // count))
    return list(dict.fromkeys(sizes))


def _keeping_totals(joint: Joint) -> Partition:
    """What is read of totals is kept: they are small, and to make them again is to run the whole loop."""
    loops = ((op, loop) for op in joint.operations if (loop := loop_of(op)) is not None)
    return partition(
        joint, [v for op, loop in loops for v, axis in zip(op.outputs, loop.result_axes, strict=True) if axis is None]
    )
