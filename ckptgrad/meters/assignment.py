"""The buffers of a compiled program over its course: what XLA holds at each instruction, and what each buffer is.

XLA assigns every buffer a place in an allocation; the program is scheduled, so that the order of its instructions is
the order in which they run.  A buffer lives from the instruction that defines it to the last one that reads it,
directly or through tuples, views and calls.  Bytes that buffers share (an operation that overwrites its operand) count once.

Sees: every buffer of the program, by shape, the primitive and the user's line that made it.
Cannot see: what `meters.xla` cannot see; and inside loops it follows one trip.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ckptgrad.compat.primitives import CALLS
from ckptgrad.graph.source import SourceLine, is_user_file, nearest_line, scope_of
from ckptgrad.graph.trips import states_trips
from ckptgrad.meters.protos import parse

# Element types of XLA by number (`xla_data.proto`), as JAX names them.
_TYPES = {
    1: "bool", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "uint8", 7: "uint16", 8: "uint32", 9: "uint64",
    10: "float16", 11: "float32", 12: "float64", 15: "complex64", 16: "bfloat16", 18: "complex128",
}  # fmt: skip
_VIEWS = frozenset({"bitcast", "opt-barrier", "domain", "add-dependency", "optimization-barrier"})
# Scopes that no user opened: around the bodies of loops and branches, and around what is called.
_LOOPS = frozenset({"while", "cond", "scan"})
_MACHINERY = re.compile(rf"^({'|'.join(CALLS)}|branch_\d+_fun|custom_(jvp|vjp)_call\w*|custom_lin|shard_map|ckptgrad_\w+)$")
# A value as XLA sees it: for each position in its tuple structure the buffers that may hold it.
Value = Mapping[tuple[int, ...], frozenset[int]]


@dataclass(frozen=True)
class XlaBuffer:
    """A buffer of a compiled program.

    Attributes:
        bytes: its size.
        shape, dtype: what it holds.
        name: JAX's name of the operation that made it, with its named scopes.
        source: the user's line, where XLA was told.
        first, last: the steps from and to which it lives.
        readers: JAX's names of the instructions of the entry computation that read it.
        place: allocation, offset and size.
        is_output: whether it is (part of) a result.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    name: str
    source: SourceLine | None
    first: int
    last: int
    readers: frozenset[str]
    place: tuple[int, int, int]
    is_output: bool


@dataclass(frozen=True)
class Assignment:
    """Buffers, and the live bytes at every step of a program.

    Attributes:
        buffers: temporaries and results.
        live: at each step the bytes of live temporaries, and of all results.
        scopes: at each step JAX's name of the instruction of the entry computation that is running.
        temporary_bytes: what XLA allocates for temporaries, gaps between buffers included.
    """

    buffers: tuple[XlaBuffer, ...]
    live: tuple[int, ...]
    scopes: tuple[str, ...]
    temporary_bytes: int

    @property
    def peak_at(self) -> int:
        """The first step at which most is live."""
        return self.live.index(max(self.live))

    def at(self, step: int) -> list[XlaBuffer]:
        """What is live at a step, results included, largest first; of buffers in one place the latest."""
        places: dict[tuple[int, int, int], XlaBuffer] = {}
        for b in sorted(self.buffers, key=lambda b: b.first):
            if b.is_output or b.first <= step <= b.last:
                places[b.place] = b
        return sorted(places.values(), key=lambda b: -b.bytes)


def read_assignment(executable: Any) -> Assignment:
    """The buffers of `jax.jit(f).lower(...).compile()`.

    Raises:
        ValueError: the platform does not tell its buffer assignment, or there are several programs.
        MissingExtraError: protobuf is not installed.
    """
    data = executable.memory_analysis().serialized_buffer_assignment_proto
    modules = executable.runtime_executable().hlo_modules()
    if not data or len(modules) != 1:
        raise ValueError("this platform does not report the buffers of its programs")
    module = parse("Module", modules[0].as_serialized_hlo_module_proto())
    return _Reader(module, parse("BufferAssignment", data)).read()


@dataclass
class _Life:
    first: int
    last: int
    instruction: Any
    index: tuple[int, ...]
    readers: set[str] = field(default_factory=set)


@dataclass
class _Reader:
    """Walks the program once, in the order in which it runs."""

    module: Any
    assignment: Any
    lives: dict[int, _Life] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.computations = {c.id: c for c in self.module.computations}
        self.instructions = {i.id: i for c in self.module.computations for i in c.instructions}
        orders = {s.computation: list(s.sequence.instructions) for s in self.module.schedule.sequences}
        self.orders = {c: orders.get(c, [i.id for i in self.computations[c].instructions]) for c in self.computations}
        self.defined: dict[int, dict[tuple[int, ...], int]] = defaultdict(dict)
        for b in self.assignment.buffers:
            self.defined[b.defined_at.instruction][tuple(b.defined_at.shape_index)] = b.id

    def read(self) -> Assignment:
        result = self.run(self.module.entry, None, "")
        self.use(result, len(self.scopes) - 1)
        buffers = tuple(self.described())
        results = sum(a.size for a in self.assignment.allocations if _is_result(a))
        live = [results + bytes_ for bytes_ in _live([b for b in buffers if not b.is_output], len(self.scopes))]
        temporaries = sum(a.size for a in self.assignment.allocations if _is_temporary(a))
        return Assignment(buffers, tuple(live), tuple(self.scopes), temporaries)

    def run(self, computation: int, arguments: Sequence[Value] | None, scope: str) -> Value:
        """Follow the instructions of a computation; `arguments` is None for the entry."""
        values: dict[int, Value] = {}
        for number in self.orders[computation]:
            instruction = self.instructions[number]
            here = scope or instruction.metadata.op_name or instruction.name
            values[number] = self.step(instruction, [values[o] for o in instruction.operands], arguments, here)
        return values[self.computations[computation].root]

    def step(self, instruction: Any, operands: list[Value], arguments: Sequence[Value] | None, scope: str) -> Value:
        code = instruction.opcode
        if code == "parameter" and arguments is not None:
            return arguments[instruction.parameter_number]
        if code == "get-tuple-element":
            k = instruction.tuple_index
            return {index[1:]: buffers for index, buffers in operands[0].items() if index[:1] == (k,)}
        if code in _VIEWS:
            return operands[0]
        inner: list[Value] = []
        if code == "call":
            inner = [self.run(instruction.called[0], operands, scope)]
        elif code == "while":
            inner = [operands[0], *(self.run(c, operands, scope) for c in instruction.called)]
        elif code == "conditional":
            inner = [self.run(c, [v], scope) for c, v in zip(instruction.called, operands[1:], strict=True)]
        now = len(self.scopes)
        self.scopes.append(scope)
        for operand in operands:
            self.use(operand, now)
        own = self.defined.get(instruction.id, {})
        for index, buffer in own.items():
            self.lives.setdefault(buffer, _Life(now, now, instruction, index))
        result: dict[tuple[int, ...], frozenset[int]] = {i: frozenset({b}) for i, b in own.items()}
        if code == "tuple":
            inner = [{(k, *index): b for k, v in enumerate(operands) for index, b in v.items()}]
        for value in inner:
            for index, buffers in value.items():
                result[index] = result.get(index, frozenset()) | buffers
        return result

    def use(self, value: Value, now: int) -> None:
        for buffers in value.values():
            for b in buffers:
                life = self.lives.get(b)
                if life is not None:
                    life.last = max(life.last, now)
                    life.readers.add(self.scopes[now])

    def described(self) -> list[XlaBuffer]:
        sizes = {b.id: b.size for b in self.assignment.buffers}
        described = []
        for allocation in self.assignment.allocations:
            if not (_is_temporary(allocation) or _is_result(allocation)):
                continue
            assigned_here = allocation.assigned
            if allocation.is_live_out:
                # A result's memory may serve temporaries before.
                assigned_here = [max(assigned_here, key=self.last_use)]
            for assigned in assigned_here:
                life = self.lives.get(assigned.buffer)
                if life is None:
                    continue
                shape = life.instruction.shape
                for k in life.index:
                    shape = shape.tuple_shapes[k]
                described.append(
                    XlaBuffer(
                        sizes[assigned.buffer],
                        tuple(shape.dimensions),
                        _TYPES.get(shape.element_type, "tuple"),
                        life.instruction.metadata.op_name or life.instruction.name,
                        self.source(life.instruction.metadata),
                        life.first,
                        life.last,
                        frozenset(life.readers),
                        (allocation.index, assigned.offset, assigned.size),
                        allocation.is_live_out,
                    )
                )
        return described

    def last_use(self, assigned: Any) -> int:
        """The last step at which what was assigned a place is live; -1 if it is never."""
        life = self.lives.get(assigned.buffer)
        return -1 if life is None else life.last

    def source(self, metadata: Any) -> SourceLine | None:
        """The user's nearest frame, and the scopes that the operation ran in."""
        scope = user_scope(metadata.op_name.rpartition("/")[0])
        line = nearest_line(self.frames(metadata.stack_frame), scope)
        if line is None and metadata.source_file and is_user_file(metadata.source_file):
            return SourceLine(metadata.source_file, metadata.source_line, "", scope)
        return line

    def frames(self, frame: int) -> Iterator[tuple[str, int, str]]:
        """File, line and function of a frame, by its number from 1, and of those that called it."""
        stack = self.module.stack
        while frame:
            this = stack.frames[frame - 1]
            location = stack.locations[this.location - 1]
            yield stack.files[location.file - 1], location.line, stack.functions[location.function - 1]
            frame = this.parent if this.parent != frame else 0


def user_scope(stack: str) -> str:
    """The user's named scopes in a stack of names of a compiled program.

    Example:
        >>> user_scope("jit(run)/backward_0/jit(ckptgrad_isolated)/while/body/closed_call/attn/while/cond")
        'attn'
    """
    names = scope_of(stack).split("/")
    kept: list[str] = []
    for outer, name, inner in zip(["", *names], names, [*names[1:], ""], strict=False):
        is_loop = name in _LOOPS and (not inner or inner in ("body", "cond") or is_machinery(inner))
        is_loop = is_loop or (outer in _LOOPS and name in ("body", "cond"))
        if not (is_loop or is_machinery(name)):
            kept.append(name)
    return "/".join(filter(None, kept))


def is_machinery(name: str) -> bool:
    """Whether one name of a stack is JAX's or this package's: of a call, of the body of a loop or branch, of its trips."""
    return _MACHINERY.match(name) is not None or states_trips(name)


def _is_temporary(allocation: Any) -> bool:
    """Whether temporaries have their places there; with `is_tuple` too, as soon as one of them is a table of pointers."""
    a = allocation
    return not (a.is_parameter or a.is_live_out or a.is_constant or a.is_thread_local)


def _is_result(allocation: Any) -> bool:
    """Whether an allocation holds (part of) a result that is not an argument passed through; tables of pointers count."""
    return allocation.is_live_out and not allocation.is_parameter


def _live(buffers: Sequence[XlaBuffer], steps: int) -> list[int]:
    """At each step the bytes in use; bytes that several live buffers share count once."""
    change = [0] * (steps + 1)
    by_allocation: dict[int, list[XlaBuffer]] = defaultdict(list)
    for b in buffers:
        by_allocation[b.place[0]].append(b)
    for inside in by_allocation.values():
        edges = sorted({edge for b in inside for edge in (b.place[1], b.place[1] + b.place[2])})
        spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for b in inside:
            for k in range(bisect_left(edges, b.place[1]), bisect_left(edges, b.place[1] + b.place[2])):
                spans[k].append((b.first, b.last))
        for k, lives in spans.items():
            for first, last in _united(lives):
                change[first] += edges[k + 1] - edges[k]
                change[last + 1] -= edges[k + 1] - edges[k]
    return list(itertools.accumulate(change[:steps]))


def _united(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Closed intervals, merged where they overlap."""
    united: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if united and first <= united[-1][1]:
            united[-1] = united[-1][0], max(united[-1][1], last)
        else:
            united.append((first, last))
    return united
