"""What values take in memory where two axes of each array are laid out in tiles.

A compiler chooses these axes, and most arrays have some that fill the tiles. Convolutions leave it no choice: what they read
and make has its channels and its batch there, so that 64 channels take the memory of 128. So does what is made of that
elementwise, and what windows slide over. All other arrays are taken to fill their tiles.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from ckptgrad.graph.atoms import Atom
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_cheap, is_transcendental
from ckptgrad.target.platform import Platform


def pad_to_tiles(operations: Sequence[Operation], platform: Platform, given: Collection[Variable] = ()) -> None:
    """Write on the values of a run of operations the elements that they have memory for, where that is more than theirs.

    Args:
        operations: any.
        platform: of the device that they are compiled for.
        given: values that lie as users gave them.
    """
    if platform.tile is None:
        return
    padded = (pair for op in operations for pair in _padded(op, platform.tile))
    waiting = {v: elements for v, elements in padded if elements > v.aval.size and v not in given}
    if not waiting:
        return
    alike = _alike(operations)
    while waiting:
        v, elements = waiting.popitem()
        v.elements = elements
        waiting.update((w, elements) for w in alike.get(v, ()) if w.elements is None and w not in given)


def _padded(op: Operation, tile: tuple[int, int]) -> Iterator[tuple[Variable, int]]:
    """The values of an operation whose axes in tiles are known, with the elements that they have memory for."""
    for atom, axes in _in_tiles(op):
        if isinstance(atom, Variable) and atom.aval.size:
            a, b = (atom.aval.shape[axis] for axis in axes)
            yield atom, atom.aval.size // (a * b) * min(_tiles(a, b, *tile), _tiles(b, a, *tile))


def _in_tiles(op: Operation) -> Iterator[tuple[Atom, Sequence[int]]]:
    """The operands and results of an operation that cannot choose its axes in tiles, with these two axes."""
    if op.name == "conv_general_dilated":
        for atom, spec in zip((*op.inputs, *op.outputs), op.params["dimension_numbers"], strict=True):
            yield atom, spec[:2]
        return
    window: Sequence[int] = op.params.get("window_dimensions", ())
    still = [axis for axis, size in enumerate(window) if size == 1]
    if len(still) == 2 < len(window):
        yield from ((a, still) for a in (*op.inputs, *op.outputs) if len(a.aval.shape) == len(window))


def _alike(operations: Sequence[Operation]) -> dict[Variable, list[Variable]]:
    """For each value those that are made of it, or it of them, element by element: they lie alike."""
    alike: dict[Variable, list[Variable]] = {}
    for op in operations:
        if is_cheap(op) or is_transcendental(op):
            size = math.prod(op.outputs[0].aval.shape)
            values = [v for v in (*variables_of(op.inputs), *op.outputs) if math.prod(getattr(v.aval, "shape", ())) == size]
            for v in values[1:]:
                alike.setdefault(values[0], []).append(v)
                alike.setdefault(v, []).append(values[0])
    return alike


def _tiles(across: int, along: int, rows: int, columns: int) -> int:
    """The elements of tiles for so many across and along them; few across lie in smaller tiles."""
    rows = min(rows, 1 << (across - 1).bit_length())
    return -(-across // rows) * rows * -(-along // columns) * columns
