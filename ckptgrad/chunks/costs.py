"""What one turn of a loop over chunks holds, and what the loop is estimated to cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.graph.graph import Atom, Inside, KnownCost, Operation, Variable, variables_of
from ckptgrad.graph.traits import is_product, is_same_numbers
from ckptgrad.target.footprint import peak_inside, values_inside
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import Target
from ckptgrad.target.tiled import pad_to_tiles


@dataclass(frozen=True)
class Turn:
    """What one turn of a loop over chunks does.

    Attributes:
        operations: those of one chunk.
        whole: the operands that are read from where they are.
        cut: chunks of operands, which are there during the turn.
        results: what is added to totals, or written where it belongs.
        carried: bytes of totals that are carried in a wider dtype.
        products: results that products make, to be added to totals of their dtype.
    """

    operations: Sequence[Operation]
    whole: Collection[Variable]
    cut: Sequence[Variable]
    results: Sequence[Variable]
    carried: int
    products: Collection[Variable] = ()

    def inside(self, target: Target) -> list[Inside]:
        """What it holds at its worst moment."""
        makers = {v: op for op in self.operations for v in op.outputs}
        values = values_inside(self.operations, self._elsewhere(target), self.results, target, self.cut)
        return [Inside(v, makers.get(v)) for v in values]

    def cost(self, loop: ChunkLoop, roofline: Roofline) -> KnownCost:
        """The bytes of one turn, and the seconds of all of them.

        Where the compiler keeps chunks near, that is what its near memory has no room for, wide totals included.
        """
        target = roofline.target
        pad_to_tiles(self.operations, target.platform, self.whole)
        held = peak_inside(self.operations, self._elsewhere(target), self.results, target, self.cut)
        seconds = loop.count * self._seconds(held, roofline)
        far = held + self.carried - (int(roofline.rates.cache) if target.platform.near_memory else 0)
        return KnownCost(seconds, max(0, far), inside=partial(self.inside, roofline.target))

    def _seconds(self, held: int, roofline: Roofline) -> float:
        """The seconds of one turn: the share of what it holds for which near memory has no room is written and read."""
        far = roofline.warm_seconds(self.operations, self.results)
        if not roofline.target.platform.near_memory:
            return far
        share = max(0.0, 1 - roofline.rates.cache / max(held, 1))
        return (1 - share) * roofline.near_seconds(self.operations, self.results) + share * far

    def _elsewhere(self, target: Target) -> Collection[Variable]:
        """What takes no memory of its own: operands read from where they are, products that are added as they come."""
        return {*self.whole, *self.products} if target.platform.adds_products else self.whole


def forward_turn(loop: ChunkLoop) -> Turn:
    """Of the loop run forward."""
    graph = loop.applied(loop.entries)
    cut = [v for v, axis in zip(graph.inputs, loop.axes, strict=True) if axis is not None]
    results = [*zip(loop.results, loop.result_axes, strict=True)]
    return _turn(loop, graph.operations, graph.inputs, cut, graph.outputs, results)


def backward_turn(loop: ChunkLoop) -> Turn:
    """Of the loop run backward, which repeats the forward of each chunk."""
    part = loop.backward_part(loop.entries)
    joint = part.joint
    seeded = [a for a, s in zip(loop.result_axes, loop.seeded, strict=True) if s]
    pairs = [*zip(joint.inputs, loop.axes, strict=True), *zip(joint.cotangents, seeded, strict=True)]
    cut = [v for v, axis in pairs if axis is not None]
    gradients = [g for g in joint.gradients if g is not None]
    inputs = (*joint.inputs, *joint.cotangents)
    return _turn(loop, part.backward_run.operations, inputs, cut, gradients, _receiving(loop))


def one_pass_turn(loop: ChunkLoop) -> Turn:
    """Of the loop run forward and backward at once."""
    graph = loop.both(loop.entries)
    seeded = [a for a, s in zip(loop.result_axes, loop.seeded, strict=True) if s]
    axes = (*loop.axes, *seeded)
    cut = [v for v, axis in zip(graph.inputs, axes, strict=True) if axis is not None]
    results = [*zip(loop.results, loop.result_axes, strict=True), *_receiving(loop)]
    return _turn(loop, graph.operations, graph.inputs, cut, graph.outputs, results)


def _receiving(loop: ChunkLoop) -> list[tuple[Variable, int | None]]:
    """The operands that get a gradient, with the axis along which they are cut."""
    flowing = zip(loop.operands, loop.axes, loop.flowing, strict=True)
    return [(v, axis) for v, axis, flows in flowing if flows]


def _wide(loop: ChunkLoop, results: Iterable[tuple[Variable, int | None]]) -> int:
    """Bytes of the totals among results that are carried in a wider dtype than theirs."""
    totals = [(v, loop.summed_in(v)) for v, axis in results if axis is None]
    return sum(v.aval.size * dtype.itemsize for v, dtype in totals if dtype != v.aval.dtype)


def _turn(
    loop: ChunkLoop,
    operations: Sequence[Operation],
    inputs: Collection[Variable],
    cut: Sequence[Variable],
    made: Sequence[Atom],
    places: Sequence[tuple[Variable, int | None]],
) -> Turn:
    """The turn of a loop in which a chunk makes its parts of some values, or its summands.

    Args:
        loop, operations, inputs: the loop, what a chunk runs and what that reads.
        cut: of the inputs those that are chunks.
        made: what a chunk makes.
        places: for each of these the value of all chunks, and the axis along which it is cut; None for a total.
    """
    results = _behind_views(operations, variables_of(made))
    summands = [a for a, (v, axis) in zip(made, places, strict=True) if axis is None and loop.summed_in(v) == v.aval.dtype]
    products = {v for op in operations if is_product(op) for v in op.outputs}
    summed = products.intersection(_behind_views(operations, variables_of(summands)))
    chunks = set(cut)
    whole = {v for v in inputs if v not in chunks}
    for op in operations:
        if is_same_numbers(op) and op.inputs[0] in whole:
            whole.update(op.outputs)  # Products read it from where the operand is.
    read = {v for op in operations for v in variables_of(op.inputs)}
    return Turn(operations, whole, [v for v in cut if v in read], results, _wide(loop, places), summed)


def _behind_views(operations: Sequence[Operation], results: Sequence[Variable]) -> list[Variable]:
    """What results are views of: they are seen so where they are added to totals or written where they belong."""
    seen = {op.outputs[0]: op.inputs[0] for op in operations if is_same_numbers(op)}

    def behind(v: Variable) -> Variable:
        while isinstance(source := seen.get(v), Variable):
            v = source
        return v

    return list(dict.fromkeys(map(behind, results)))
