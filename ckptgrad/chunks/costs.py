"""What one turn of a loop over chunks holds, and what the loop is estimated to cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.graph.graph import Inside, KnownCost, Operation, Variable, variables_of
from ckptgrad.graph.traits import is_same_numbers
from ckptgrad.target.footprint import peak_inside, values_inside
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target


@dataclass(frozen=True)
class Turn:
    """What one turn of a loop over chunks does.

    Attributes:
        operations: those of one chunk.
        whole: the operands that are read from where they are.
        cut: chunks of operands, which are there during the turn.
        results: what is added to totals, or written where it belongs.
        carried: bytes of totals that are carried in a wider dtype.
    """

    operations: Sequence[Operation]
    whole: Collection[Variable]
    cut: Sequence[Variable]
    results: Sequence[Variable]
    carried: int

    def inside(self, target: Target) -> list[Inside]:
        """What it holds at its worst moment."""
        makers = {v: op for op in self.operations for v in op.outputs}
        values = values_inside(self.operations, self.whole, self.results, target, self.cut)
        return [Inside(v, makers.get(v)) for v in values]

    def cost(self, loop: ChunkLoop, roofline: Roofline) -> KnownCost:
        """The bytes of one turn, and the seconds of all of them."""
        held = peak_inside(self.operations, self.whole, self.results, roofline.target, self.cut)
        seconds = loop.count * roofline.warm_seconds(self.operations, self.results)
        return KnownCost(seconds, held + self.carried, inside=partial(self.inside, roofline.target))


def forward_turn(loop: ChunkLoop) -> Turn:
    """Of the loop run forward."""
    graph = loop.applied(loop.entries)
    cut = [v for v, axis in zip(graph.inputs, loop.axes, strict=True) if axis is not None]
    totals = _wide(loop, zip(loop.results, loop.result_axes, strict=True))
    return _turn(graph.operations, graph.inputs, cut, variables_of(graph.outputs), totals)


def backward_turn(loop: ChunkLoop) -> Turn:
    """Of the loop run backward, which repeats the forward of each chunk."""
    part = loop.backward_part(loop.entries)
    joint = part.joint
    seeded = [a for a, s in zip(loop.result_axes, loop.seeded, strict=True) if s]
    pairs = [*zip(joint.inputs, loop.axes, strict=True), *zip(joint.cotangents, seeded, strict=True)]
    cut = [v for v, axis in pairs if axis is not None]
    gradients = variables_of(g for g in joint.gradients if g is not None)
    inputs = (*joint.inputs, *joint.cotangents)
    return _turn(part.backward_run.operations, inputs, cut, gradients, _wide(loop, _receiving(loop)))


def one_pass_turn(loop: ChunkLoop) -> Turn:
    """Of the loop run forward and backward at once."""
    graph = loop.both(loop.entries)
    seeded = [a for a, s in zip(loop.result_axes, loop.seeded, strict=True) if s]
    axes = (*loop.axes, *seeded)
    cut = [v for v, axis in zip(graph.inputs, axes, strict=True) if axis is not None]
    totals = _wide(loop, [*zip(loop.results, loop.result_axes, strict=True), *_receiving(loop)])
    return _turn(graph.operations, graph.inputs, cut, variables_of(graph.outputs), totals)


def _receiving(loop: ChunkLoop) -> list[tuple[Variable, int | None]]:
    """The operands that get a gradient, with the axis along which they are cut."""
    flowing = zip(loop.operands, loop.axes, loop.flowing, strict=True)
    return [(v, axis) for v, axis, flows in flowing if flows]


def _wide(loop: ChunkLoop, results: Iterable[tuple[Variable, int | None]]) -> int:
    """Bytes of the totals among results that are carried in a wider dtype than theirs."""
    totals = [(v, loop.summed_in(v)) for v, axis in results if axis is None]
    return sum(v.aval.size * dtype.itemsize for v, dtype in totals if dtype != v.aval.dtype)


def _turn(
    operations: Sequence[Operation],
    inputs: Collection[Variable],
    cut: Sequence[Variable],
    results: Sequence[Variable],
    carried: int,
) -> Turn:
    results = _behind_views(operations, results)
    chunks = set(cut)
    whole = {v for v in inputs if v not in chunks}
    for op in operations:
        if is_same_numbers(op) and op.inputs[0] in whole:
            whole.update(op.outputs)  # Products read it from where the operand is.
    read = {v for op in operations for v in variables_of(op.inputs)}
    return Turn(operations, whole, [v for v in cut if v in read], results, carried)


def _behind_views(operations: Sequence[Operation], results: Sequence[Variable]) -> list[Variable]:
    """What results are views of: they are seen so where they are added to totals or written where they belong."""
    seen = {op.outputs[0]: op.inputs[0] for op in operations if is_same_numbers(op)}

    def behind(v: Variable) -> Variable:
        while isinstance(source := seen.get(v), Variable):
            v = source
        return v

    return list(dict.fromkeys(map(behind, results)))
