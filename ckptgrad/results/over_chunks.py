"""What of a schedule runs over chunks, along which axes: as users know these, by an argument and its axis."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ckptgrad.axes.followed import Place, followed
from ckptgrad.chain.program import Program, Stage
from ckptgrad.chunks.candidates import axes_cut
from ckptgrad.chunks.chunk_loop import ChunkLoop
from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.planning.schedule import Action, Backward, Forward, Schedule

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Chunks:
    """How something runs over chunks of an axis, one after the other.

    Attributes:
        count: how many.
        entries: how many entries of the axis are in each; the last one may have fewer.
        axis: "axis 1 of batch['tokens']", or "" if no argument has it.
    """

    count: int
    entries: int
    axis: str

    def __str__(self) -> str:
        return f"{self.count} chunks of {self.entries} along {self.axis or 'an axis that no argument has'}"


def stages_over_chunks(program: Program, kept: Mapping[int, int]) -> dict[int, Chunks]:
    """The stages that run over chunks.

    Args:
        program: the chain.
        kept: for each stage the save option that it keeps.
    """
    found = {i: _loop(program.stages[i].kind.options[keep].partition.joint.operations) for i, keep in sorted(kept.items())}
    return _named(program, {i: (i, loop) for i, loop in found.items() if loop is not None})


def actions_over_chunks(program: Program, schedule: Schedule) -> list[Chunks | None]:
    """For each action of a schedule how it runs over chunks; None for those that do not."""
    kept: dict[int, int | None] = {}
    seen: dict[tuple[object, bool, int | None], ChunkLoop | None] = {}
    loops: dict[int, tuple[int, ChunkLoop]] = {}
    for k, action in enumerate(schedule):
        if not isinstance(action, Forward | Backward):
            continue
        if isinstance(action, Forward):
            kept[action.stage] = action.keep
        kind, keep = program.stages[action.stage].kind, kept.get(action.stage)
        key = kind, isinstance(action, Forward), keep
        if key not in seen:
            seen[key] = _loop(_operations(program.stages[action.stage], action, keep))
        if (loop := seen[key]) is not None:
            loops[k] = action.stage, loop
    found = _named(program, loops)
    return [found.get(k) for k in range(len(schedule))]


def _operations(stage: Stage, action: Action, keep: int | None) -> Sequence[Operation]:
    """What an action runs, where `keep` is the save option of its stage; None where its forward keeps nothing."""
    if isinstance(action, Forward):
        return (stage.kind.plain if keep is None else stage.kind.options[keep].partition).forward_operations
    return () if keep is None else stage.kind.options[keep].partition.backward_run.operations


def _loop(operations: Iterable[Operation]) -> ChunkLoop | None:
    loops = (op.params.get("loop") for op in operations)
    return next((loop for loop in loops if isinstance(loop, ChunkLoop)), None)


def _named(program: Program, loops: Mapping[Key, tuple[int, ChunkLoop]]) -> dict[Key, Chunks]:
    """Loops with the names of their axes; each of them is in the stage of that number."""
    if not loops:
        return {}
    wrt, graph = {*program.wrt}, program.graph
    # Data before parameters: whose axis it is by meaning.
    inputs = sorted(enumerate(graph.inputs), key=lambda pair: pair[1] in wrt)
    start = {(v, axis): (order, k, axis) for order, (k, v) in enumerate(inputs) for axis in range(len(v.aval.shape))}
    known = followed(graph.operations, start)
    axes: dict[tuple[int, ChunkLoop], str] = {}
    for i, loop in dict.fromkeys(loops.values()):
        marks = sorted(mark for place in _places(program.stages[i], loop) for mark in known.get(place, ()))
        axes[i, loop] = _axis(program, *marks[0][1:]) if marks else ""
    return {key: Chunks(loop.count, loop.entries, axes[i, loop]) for key, (i, loop) in loops.items()}


def _places(stage: Stage, loop: ChunkLoop) -> list[Place]:
    """Where the values of the whole graph are cut that enter a stage's loop over chunks."""
    graph = stage.kind.graph
    names = dict(zip(graph.inputs, stage.inputs, strict=True))
    names.update(zip(_results(graph.operations), _results(stage.operations), strict=True))
    return [(names[v], axis) for v, axis in axes_cut(loop.found) if v in names]


def _results(operations: Iterable[Operation]) -> list[Variable]:
    return [v for op in operations for v in op.outputs]


def _axis(program: Program, k: int, axis: int) -> str:
    name = program.arguments[k] if k < len(program.arguments) else f"args[{k}]"
    return f"axis {axis} of {name}"
