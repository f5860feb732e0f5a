# pyright: reportUnknownMemberType=false
"""`chunkable`: whether a graph may be run over chunks of an axis, one after the other, and what that takes.

Forward through the graph, each value is whole (the same for every chunk), split along an axis, or a sum over the chunks.
What depends on no cut value is done once before; where a chunk needs a part of it, the part is made inside the loop as far
back as axes are followed, and sliced from there. Where it meets numbers of the whole value, which it may equal, it is sliced
at once: made again it is rounded otherwise, and every comparison would see it. What reads sums is done once after. An
operation that needs a sum and a part, or a part by an axis that is not followed, makes the axis not chunkable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import primitives as p

from ckptgrad.axes.cut import Chunk, Partial, Split, State, may_be_cut
from ckptgrad.axes.statements import Passage, axes_of
from ckptgrad.graph.evaluate import apply, needed_operations, read
from ckptgrad.graph.graph import Atom, Constant, Graph, Operation, Variable, variables_of
from ckptgrad.graph.stack_depth import deep_stack
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.graph.traits import compares_values, is_same_numbers, mixes_numbers
from ckptgrad.graph.value_types import struct


@dataclass(frozen=True)
class Step:
    """An operation inside the loop, on the variables that stand for a chunk's values there."""

    op: Operation
    passage: Passage


class NotChunkable(Exception):
    """Some operation needs more than the part that a chunk has; never leaves this room."""


@dataclass(frozen=True, eq=False)
class Chunkable:
    """A graph that may be run over chunks of an axis.

    Attributes:
        graph: the graph.
        size: entries along the axis.
        inputs: what the loop reads: inputs, captured values and results of `before`, in the order of those of `for_chunk`.
        sliced: of these the ones of which a chunk reads a part, with the axis; it reads the others whole.
        outputs: what the loop makes, in the order of the outputs of `for_chunk`: parts, and summands of totals.
        before, after: the operations done once before the loop and after it.
        steps: the operations inside.
    """

    graph: Graph
    size: int
    inputs: tuple[Variable, ...]
    sliced: Mapping[Variable, int]
    outputs: Mapping[Variable, Split | Partial]
    before: tuple[Operation, ...]
    after: tuple[Operation, ...]
    steps: tuple[Step, ...]

    @property
    def inside(self) -> tuple[Operation, ...]:
        """The operations in the loop, as they are for all entries at once."""
        return tuple(step.op for step in self.steps)

    @property
    def copies(self) -> dict[Variable, Variable]:
        """Of values of which a chunk reads a part and also all, or another part: the variable that is sliced, its source."""
        made = ((op.outputs[0], op.inputs[0]) for op in self.before if op.name == "copy")
        return {v: a for v, a in made if isinstance(a, Variable) and self.graph.get_operation(v) is None}

    def making(self, outputs: Collection[Variable]) -> Chunkable:
        """The same with some of the outputs only, and the operations that these need."""
        needed = set(needed_operations([step.op for step in self.steps], outputs))
        steps = tuple(step for step in self.steps if step.op in needed)
        read_ = {v for step in steps for v in variables_of(step.op.inputs)}
        inputs = tuple(v for v in self.inputs if v in read_)
        sliced = {v: axis for v, axis in self.sliced.items() if v in read_}
        kept = {v: state for v, state in self.outputs.items() if v in outputs}
        return Chunkable(self.graph, self.size, inputs, sliced, kept, self.before, self.after, steps)

    def for_chunk(self, entries: int) -> Graph:
        """The operations inside for so many entries: from `inputs`, cut where they are sliced, to `outputs`."""
        chunk = Chunk(self.size, entries)
        states = [Split(self.sliced[v]) if v in self.sliced else None for v in self.inputs]
        structs = [resized_struct(v, s, chunk) for v, s in zip(self.inputs, states, strict=True)]

        def run(*values: Any) -> list[Any]:
            env = dict(zip(self.inputs, values, strict=True))
            run_steps(self.steps, env, chunk)
            return [env[v] for v in self.outputs]

        with deep_stack():
            graph = from_jaxpr(jax.make_jaxpr(run)(*structs))
        expected = [chunk.shape(v.aval.shape, s) for v, s in self.outputs.items()]
        assert [a.aval.shape for a in graph.outputs] == expected, "a statement about axes is wrong"
        return graph


def resized_struct(v: Variable, state: State, chunk: Chunk) -> Any:
    """What stands for a chunk's part of a value in a trace."""
    whole = struct(v.aval)
    return whole.update(shape=chunk.shape(v.aval.shape, state)) if isinstance(state, Split) else whole


def run_steps(steps: Sequence[Step], env: dict[Variable, Any], chunk: Chunk) -> None:
    """Run the operations of a chunk, each result checked against the shape that the analysis gave it."""
    for step in steps:
        results = step.passage.run([read(env, a) for a in step.op.inputs], chunk)
        for v, state, value in zip(step.op.outputs, step.passage.results, results, strict=True):
            assert value.shape == chunk.shape(v.aval.shape, state), f"the statement about axes of {step.op.name} is wrong"
            env[v] = value


def chunkable(graph: Graph, start: Mapping[Variable, int], size: int | None = None) -> Chunkable | None:
    """How a graph may be run over chunks of an axis; None where that is not proved.

    Args:
        graph: forward operations.
        start: inputs that are cut, with the axis of each; others are cut too where an operation pairs them with these.
        size: entries along the axis; None for the places of the shortest of these axes.
    """
    if not start:
        return None
    entries = min(v.aval.shape[axis] for v, axis in start.items()) if size is None else size
    if entries < 2 or not all(may_be_cut(v, axis, entries) for v, axis in start.items()):
        return None
    if any(op.effects for op in graph.operations):
        return None
    try:
        with deep_stack():
            return _Analysis(graph, entries, start).result()
    except NotChunkable:
        return None


class _Analysis:
    def __init__(self, graph: Graph, size: int, start: Mapping[Variable, int]) -> None:
        self.graph, self.size = graph, size
        self.states: dict[Variable, State] = {v: Split(axis) for v, axis in start.items()}
        self.steps: list[Step] = []
        # From a whole value and an axis to the variable that stands for a chunk's part of it.
        self.parts: dict[tuple[Variable, int], Variable] = {}
        self.sliced: dict[Variable, int] = dict(start)
        self.copies: list[Operation] = []
        # From what stands for a part that is made inside to the whole value.
        self.remade: dict[Variable, Variable] = {}
        self.after: list[Operation] = []
        self.totals: set[Atom] = set()  # sums, and what is made of them
        self.lost: set[Atom] = set()  # whole results made inside, which nothing outside may read
        self.operations = needed_operations(graph.operations, graph.outputs)
        for op in self.operations:
            self._visit(op)
        if not self.lost.isdisjoint(graph.outputs):
            raise NotChunkable

    def _visit(self, op: Operation) -> None:
        if not self.lost.isdisjoint(op.inputs):
            raise NotChunkable
        states = [self.states.get(a) if isinstance(a, Variable) else None for a in op.inputs]
        split = [s.axis if isinstance(s, Split) else None for s in states]
        has_parts = any(a is not None for a in split)
        if any(a in self.totals for a in op.inputs):
            if has_parts:
                raise NotChunkable
            self.after.append(op)
            self.totals.update(op.outputs)
        elif has_parts:
            axes = axes_of(op)
            passage = None if axes is None else axes.forward(op, split, self.size)
            if passage is None:
                raise NotChunkable
            self._add(op, passage, op.outputs)
            for v, state in zip(op.outputs, passage.results, strict=True):
                self.states[v] = state
                if isinstance(state, Partial):
                    self.totals.add(v)
                if state is None:
                    self.lost.add(v)

    def _add(self, op: Operation, passage: Passage, outputs: Sequence[Variable]) -> None:
        inputs: list[Atom] = []
        for a, axis in zip(op.inputs, passage.operands, strict=True):
            inputs.append(self._operand(a, axis))
        self.steps.append(Step(op.replace(inputs, outputs), passage))

    def _operand(self, atom: Atom, axis: int | None) -> Atom:
        state = self.states.get(atom) if isinstance(atom, Variable) else None
        if isinstance(state, Split):
            if state.axis != axis:
                raise NotChunkable
            return atom
        if axis is None:
            return atom
        if isinstance(atom, Constant):
            raise NotChunkable
        return self._part(atom, axis)

    def _part(self, v: Variable, axis: int) -> Variable:
        """The variable of a chunk's part of a whole value: made from parts of what that is made of, or sliced."""
        if (v, axis) not in self.parts:
            op = self.graph.get_operation(v)
            axes = None if op is None else axes_of(op)
            result = 0 if op is None else op.outputs.index(v)
            passage = None if op is None or axes is None else axes.towards(op, result, axis, self.size)
            if op is None or passage is None or not self._is_wholly_split(passage):
                if not may_be_cut(v, axis, self.size):
                    raise NotChunkable
                self.parts[v, axis] = self._sliced(v, axis)
            else:
                outputs = [Variable(o.aval, o.sharding) for o in op.outputs]
                self._add(op, passage, outputs)
                for o, own, state in zip(op.outputs, outputs, passage.results, strict=True):
                    assert isinstance(state, Split)
                    self.parts[o, state.axis] = own
                    self.remade[own] = o
        return self.parts[v, axis]

    def _is_wholly_split(self, passage: Passage) -> bool:
        return all(isinstance(state, Split) for state in passage.results)

    def _sliced(self, v: Variable, axis: int) -> Variable:
        """A variable of its own for what is sliced: the same value may be read whole too, or cut along another axis."""
        own = Variable(v.aval, v.sharding)
        self.copies.append(Operation(p.copy_p, [v], [own], {}))
        self.sliced[own] = axis
        return own

    def _slice_what_meets_its_whole(self) -> None:
        """Slice parts that would be made again and meet numbers of the whole value."""
        while met := self._met():
            for step in [s for s in self.steps if any(self.remade.get(v) in met for v in s.op.outputs)]:
                self.steps.remove(step)
                for own, state in zip(step.op.outputs, step.passage.results, strict=True):
                    v = self.remade.pop(own)
                    if not isinstance(state, Split) or not may_be_cut(v, state.axis, self.size):
                        raise NotChunkable
                    self.copies.append(Operation(p.copy_p, [v], [own], {}))
                    self.sliced[own] = state.axis

    def _met(self) -> set[Variable]:
        """Whole values of which some operation reads both a part that is made again and numbers of the whole.

        Sums and products, with masks, pick numbers too: they count where a comparison reads them.
        """
        # From a value to those whose numbers it has, of the whole and of parts; as they are, and through sums.
        whole_numbers: dict[Atom, set[Variable]] = {v: {v} for v in self.remade.values()}
        part_numbers: dict[Atom, set[Variable]] = {own: {v} for own, v in self.remade.items()}
        known = whole_numbers, part_numbers, {**whole_numbers}, {**part_numbers}
        met: set[Variable] = set()
        operations = [*self._outside, *self.copies, *(step.op for step in self.steps)] if self.remade else []
        for op in operations:
            read_ = [set[Variable]().union(*(numbers.get(a, ()) for a in op.inputs)) for numbers in known]
            if compares_values(op):
                met |= read_[2] & read_[3]
            for numbers, found in [*zip(known, read_, strict=True)][2 if mixes_numbers(op) else 0 :]:
                for v in op.outputs if found else ():
                    numbers[v] = numbers.get(v, set()) | found
            for v in op.outputs:
                met |= whole_numbers.get(v, set()) & part_numbers.get(v, set())
        return met

    def result(self) -> Chunkable | None:
        self._slice_what_meets_its_whole()
        graph, steps = self.graph, self._without_copies()
        made = {v for step in steps for v in step.op.outputs}
        wanted = {*variables_of(graph.outputs), *(v for op in self.after for v in variables_of(op.inputs))}
        outputs: dict[Variable, Split | Partial] = {}
        for step in steps:
            for v, state in zip(step.op.outputs, step.passage.results, strict=True):
                if v in wanted and state is not None:
                    outputs[v] = state
        if not outputs:
            return None
        kept = set(needed_operations([s.op for s in steps], list(outputs)))
        steps = [s for s in steps if s.op in kept]
        steps = [*self._views_of_whole(steps), *steps]
        made = {v for step in steps for v in step.op.outputs}
        inputs = list(dict.fromkeys(v for s in steps for v in variables_of(s.op.inputs) if v not in made))
        reads = [*inputs, *graph.outputs, *(a for op in self.after for a in op.inputs)]
        before = needed_operations([*self._outside, *self.copies], [v for v in variables_of(reads) if v not in made])
        sliced = {v: self.sliced[v] for v in inputs if v in self.sliced}
        return Chunkable(graph, self.size, tuple(inputs), sliced, outputs, tuple(before), tuple(self.after), tuple(steps))

    @property
    def _outside(self) -> list[Operation]:
        """The operations that depend on no cut value."""
        inside: set[Atom] = {v for v, s in self.states.items() if s is not None} | self.totals | self.lost
        return [op for op in self.operations if not any(v in inside for v in op.outputs)]

    def _views_of_whole(self, steps: Sequence[Step]) -> list[Step]:
        """Views of what chunks read whole, and nothing else reads, are taken inside: a transposed parameter is no array."""
        read_ = {v for step in steps for v in variables_of(step.op.inputs)}
        elsewhere = {*self.graph.outputs, *(a for op in (*self.copies, *self.after) for a in op.inputs)}
        views: list[Step] = []
        for op in reversed(self.operations):
            v = op.outputs[0]
            if self.states.get(v) is not None or v in self.totals:
                continue
            if v in read_ and v not in elsewhere and v not in self.sliced and is_same_numbers(op):
                views.append(Step(op, Passage(tuple(None for _ in op.inputs), (None,), lambda xs, _, op=op: apply(op, xs))))
                read_.update(variables_of(op.inputs))
            else:
                elsewhere.update(op.inputs)
        return views[::-1]

    def _without_copies(self) -> list[Step]:
        """The steps, where what is read in one way only is sliced itself, not a copy of it."""
        read_whole = {v for step in self.steps for v in variables_of(step.op.inputs)}
        originals = [variables_of(op.inputs)[0] for op in self.copies]
        plain = {
            op.outputs[0]: v
            for op, v in zip(self.copies, originals, strict=True)
            if originals.count(v) == 1 and v not in read_whole
        }
        self.copies = [op for op in self.copies if op.outputs[0] not in plain]
        self.sliced.update((v, self.sliced[own]) for own, v in plain.items())
        renamed: list[Step] = []
        for step in self.steps:
            inputs = [plain.get(a, a) if isinstance(a, Variable) else a for a in step.op.inputs]
            renamed.append(Step(step.op.replace(inputs, step.op.outputs), step.passage))
        return renamed
