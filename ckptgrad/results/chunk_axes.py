"""Along which axes the stages of a plan run over chunks, as users know these: by an argument and its axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ckptgrad.axes.followed import Place, followed
from ckptgrad.chain.kind import Option
from ckptgrad.chain.program import Program, Stage
from ckptgrad.chunks.candidates import axes_cut
from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.graph.graph import Operation, Variable


def chunk_axes(program: Program, kept: Mapping[int, int]) -> dict[int, str]:
    """For each stage that runs over chunks the axis: "axis 1 of batch['tokens']"; "" where no argument has it.

    Args:
        program: the chain.
        kept: for each stage the save option that it keeps.
    """
    cut = {i: places for i, keep in kept.items() if (places := _places(program.stages[i], keep))}
    if not cut:
        return {}
    wrt, graph = {*program.wrt}, program.graph
    # Data before parameters: whose axis it is by meaning.
    inputs = sorted(enumerate(graph.inputs), key=lambda pair: pair[1] in wrt)
    start = {(v, axis): (order, k, axis) for order, (k, v) in enumerate(inputs) for axis in range(len(v.aval.shape))}
    known = followed(graph.operations, start)
    found: dict[int, str] = {}
    for i, places in cut.items():
        marks = sorted(mark for place in places for mark in known.get(place, ()))
        found[i] = _named(program, *marks[0][1:]) if marks else ""
    return dict(sorted(found.items()))


def _places(stage: Stage, keep: int) -> list[Place]:
    """Where the values of the whole graph are cut that enter a stage's loop over chunks."""
    loop = _loop(stage.kind.options[keep])
    if loop is None:
        return []
    graph = stage.kind.graph
    names = dict(zip(graph.inputs, stage.inputs, strict=True))
    names.update(zip(_results(graph.operations), _results(stage.operations), strict=True))
    return [(names[v], axis) for v, axis in axes_cut(loop.found) if v in names]


def _loop(option: Option) -> ChunkLoop | None:
    loops = (op.params.get("loop") for op in option.partition.joint.operations)
    return next((loop for loop in loops if isinstance(loop, ChunkLoop)), None)


def _results(operations: Iterable[Operation]) -> list[Variable]:
    return [v for op in operations for v in op.outputs]


def _named(program: Program, k: int, axis: int) -> str:
    name = program.arguments[k] if k < len(program.arguments) else f"args[{k}]"
    return f"axis {axis} of {name}"
