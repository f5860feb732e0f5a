"""What operations that move numbers about do to axes: stated beside their derivatives in `shapes` and `indexing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ckptgrad.axes.cut import Chunk, Split, State
from ckptgrad.axes.families import placed, rank, sized
from ckptgrad.axes.statements import Linked, Links
from ckptgrad.graph.graph import Operation


def _broadcast(op: Operation) -> Links | None:
    """An axis stretched from size one is made anew, as are axes that the operand has not."""
    if op.params.get("sharding") is not None or len(op.inputs) != 1:
        return None
    shape, places = op.params["shape"], op.params["broadcast_dimensions"]
    own = op.inputs[0].aval.shape
    return Links([[d if n == shape[d] else None for n, d in zip(own, places, strict=True)]], [range(len(shape))])


def _reshape(op: Operation) -> Links | None:
    """Axes that are merged, or split, in one group: of the group only the first longer than one is followed.

    Of a value in row-major order its first so many parts are the same entries before and after.
    """
    if op.params.get("sharding") is not None or op.params.get("dimensions") is not None or len(op.inputs) != 1:
        return None
    before, after = op.inputs[0].aval.shape, op.outputs[0].aval.shape
    if 0 in before:
        return None
    labels: tuple[list[int | None], list[int | None]] = ([None] * len(before), [None] * len(after))
    i = j = 0
    while i < len(before) and j < len(after):
        starts, sizes = (i, j), [before[i], after[j]]
        i, j = i + 1, j + 1
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                sizes[0], i = sizes[0] * before[i], i + 1
            else:
                sizes[1], j = sizes[1] * after[j], j + 1
        for own, shape, start, end in zip(labels, (before, after), starts, (i, j), strict=True):
            first = next((d for d in range(start, end) if shape[d] > 1), None)
            if first is not None:
                own[first] = starts[0]
    return Links([labels[0]], [labels[1]])


def _transpose(op: Operation) -> Links:
    return Links([range(rank(op.inputs[0]))], [op.params["permutation"]])


def _squeeze(op: Operation) -> Links:
    n = rank(op.inputs[0])
    gone = {d % n for d in op.params["dimensions"]}
    return Links([range(n)], [[d for d in range(n) if d not in gone]])


def _rev(op: Operation) -> Links:
    labels = [None if d in op.params["dimensions"] else d for d in range(rank(op.inputs[0]))]
    return Links([labels], [labels])


def _slice(op: Operation) -> Links:
    """Axes that are taken whole."""
    before, after = op.inputs[0].aval.shape, op.outputs[0].aval.shape
    labels = [d if n == m else None for d, (n, m) in enumerate(zip(before, after, strict=True))]
    return Links([labels], [labels])


def _sliced(op: Operation, operands: Sequence[State], results: Sequence[State], chunk: Chunk) -> Mapping[str, Any]:
    return {"limit_indices": placed(op.params["limit_indices"], results[0], chunk)}


def _pad(op: Operation) -> Links:
    """Axes that get nothing before, after or between their places."""
    labels = [d if tuple(edges) == (0, 0, 0) else None for d, edges in enumerate(op.params["padding_config"])]
    return Links([labels, ()], [labels])


def _along(name: str) -> Linked:
    """Values joined or taken apart along one axis."""

    def links(op: Operation) -> Links:
        labels = [None if d == op.params[name] else d for d in range(rank(op.inputs[0]))]
        return Links([labels] * len(op.inputs), [labels] * len(op.outputs))

    return Linked(links)


def _dynamic_slice(op: Operation) -> Links:
    """Axes that are taken whole, whatever the start: it is clamped to zero there."""
    before, after = op.inputs[0].aval.shape, op.outputs[0].aval.shape
    labels = [d if n == m else None for d, (n, m) in enumerate(zip(before, after, strict=True))]
    return Links([labels, *[()] * (len(op.inputs) - 1)], [labels])


def _dynamic_update_slice(op: Operation) -> Links:
    whole, update = op.inputs[0].aval.shape, op.inputs[1].aval.shape
    labels = [d if n == m else None for d, (n, m) in enumerate(zip(whole, update, strict=True))]
    return Links([labels, labels, *[()] * (len(op.inputs) - 2)], [labels])


def _gather(op: Operation) -> Links | None:
    """Of the result an axis comes from the indices, from both (batching), or from the operand, where it is taken whole."""
    operand, indices = op.inputs[0].aval.shape, rank(op.inputs[1])
    numbers, sizes = op.params["dimension_numbers"], op.params["slice_sizes"]
    labels: list[Any] = [None] * len(operand)
    batching = dict(zip(numbers.start_indices_batching_dims, numbers.operand_batching_dims, strict=True))
    of_indices: list[Any] = [("index", d) for d in range(indices - 1)]
    for d in batching.values():
        labels[d] = next(of_indices[i] for i, own in batching.items() if own == d)
    windows = [d for d in range(len(operand)) if d not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
    for d in windows:
        if sizes[d] == operand[d] and d not in numbers.start_index_map:
            labels[d] = ("window", d)
    result: list[Any] = []
    rest, taken = iter(of_indices), iter(windows)
    for d in range(rank(op.outputs[0])):
        result.append(labels[next(taken)] if d in numbers.offset_dims else next(rest))
    return Links([labels, [*of_indices, None]], [result])


def _gathered(op: Operation, operands: Sequence[State], results: Sequence[State], chunk: Chunk) -> Mapping[str, Any]:
    """Slices along a batching axis have size one; those along an axis taken whole become as long as the chunk."""
    state, sizes = operands[0], op.params["slice_sizes"]
    if not isinstance(state, Split) or state.axis in op.params["dimension_numbers"].operand_batching_dims:
        return {}
    return {"slice_sizes": placed(sizes, state, chunk)}


def _scatter(op: Operation) -> Links:
    """Axes along which updates lie as the operand does: those of both and of the indices (batching), and windows as long.

    Along other axes any place may be written, by any update: they are needed whole.
    """
    operand, updates = op.inputs[0].aval.shape, op.inputs[2].aval.shape
    numbers = op.params["dimension_numbers"]
    labels: list[Any] = [None] * len(operand)
    of_indices: list[Any] = [None] * rank(op.inputs[1])
    for d, axis in zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True):
        labels[d] = of_indices[axis] = ("index", axis)
    windows = [d for d in range(len(operand)) if d not in (*numbers.inserted_window_dims, *numbers.operand_batching_dims)]
    for d, axis in zip(windows, numbers.update_window_dims, strict=True):
        if updates[axis] == operand[d] and d not in numbers.scatter_dims_to_operand_dims:
            labels[d] = ("window", d)
    rest, taken = iter(of_indices), iter(windows)
    written = [labels[next(taken)] if d in numbers.update_window_dims else next(rest) for d in range(len(updates))]
    return Links([labels, of_indices, written], [labels])


def _stacked(op: Operation, parts: Sequence[Any], whole: Any) -> tuple[list[list[int]], list[int | None]]:
    labels: list[int | None] = list(range(rank(parts[0])))
    joined = labels.copy()
    joined.insert(op.params["axis"] % rank(whole), None)
    return [list(range(rank(parts[0])))] * len(parts), joined


def _stack(op: Operation) -> Links:
    parts, joined = _stacked(op, op.inputs, op.outputs[0])
    return Links(parts, [joined])


def _unstack(op: Operation) -> Links:
    parts, joined = _stacked(op, op.outputs, op.inputs[0])
    return Links([joined], parts)


def _tile(op: Operation) -> Links:
    """Axes that are not repeated."""
    labels = [d if n == 1 else None for d, n in enumerate(op.params["reps"])]
    return Links([labels], [labels])


broadcast_in_dim = Linked(_broadcast, sized("shape"))
reshape = Linked(
    _reshape,
    lambda op, operands, results, chunk: {"new_sizes": placed(op.params["new_sizes"], results[0], chunk)},
)
transpose, squeeze, rev, pad = Linked(_transpose), Linked(_squeeze), Linked(_rev), Linked(_pad)
slice_ = Linked(_slice, _sliced)
stack, unstack, tile = Linked(_stack), Linked(_unstack), Linked(_tile)
concatenate, split = _along("dimension"), _along("axis")
dynamic_slice = Linked(_dynamic_slice, sized("slice_sizes"))
dynamic_update_slice = Linked(_dynamic_update_slice)
gather, scatter = Linked(_gather, _gathered), Linked(_scatter)
