"""A compiled program, read from the text that XLA prints: computations and their instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from ckptgrad.graph.trips import stated_trips
from ckptgrad.once import once

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*)")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_OPERAND = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b([a-z]+[a-z0-9]*)\[([\d,]*)\]")
_BITS = re.compile(r"[a-z]+(\d+)")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|called_computations)=(\{[^}]*\}|%[\w.\-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|true_computation|false_computation)=(\{[^}]*\}|%[\w.\-]+)")
_OP_NAME = re.compile(r'\bop_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Array:
    """The type of an array: XLA's name of its elements, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def bits(self) -> int:
        """Bits of an element; none of tokens."""
        digits = _BITS.match(self.dtype)
        return 8 if self.dtype == "pred" else int(digits[1]) if digits else 0

    @property
    def bytes(self) -> int:
        """Bytes, without the padding of a tiled layout."""
        return self.size * self.bits // 8


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: without the sign.
        type_text: the type of its result, which may be a tuple.
        opcode: what it does.
        operand_text: names of operands, the number of a parameter, or the literal of a constant.
        attributes: the rest of its line.
        is_root: whether its result is that of its computation.
    """

    name: str
    type_text: str
    opcode: str
    operand_text: str
    attributes: str
    is_root: bool

    @once
    def arrays(self) -> tuple[Array, ...]:
        """The arrays that its result consists of."""
        found = _ARRAY.findall(self.type_text)
        return tuple(Array(dtype, tuple(int(n) for n in shape.split(",") if n)) for dtype, shape in found)

    @once
    def operands(self) -> tuple[str, ...]:
        """The names of the instructions whose results it reads."""
        return tuple(_OPERAND.findall(self.operand_text))

    @property
    def bytes(self) -> int:
        """Bytes of its result."""
        return sum(a.bytes for a in self.arrays)

    @property
    def called(self) -> tuple[str, ...]:
        """The computations that it runs once each time, or, of a loop, once a trip; without a loop's condition."""
        return _names(_CALLED.findall(self.attributes))

    @property
    def branches(self) -> tuple[str, ...]:
        """The computations of which it runs one."""
        return _names(_BRANCHES.findall(self.attributes))

    @property
    def op_name(self) -> str:
        """JAX's name of the operation that it comes from, with its scopes; empty where it is not told."""
        match = _OP_NAME.search(self.attributes)
        return match[1] if match else ""


def _names(texts: list[str]) -> tuple[str, ...]:
    return tuple(name for text in texts for name in _OPERAND.findall(text))


@dataclass(frozen=True)
class Module:
    """A program.

    Attributes:
        computations: instructions by name, by the name of the computation.
        entry: the name of the computation that is run.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str

    def trips(self, loop: Instruction) -> float:
        """How often a loop runs its body: as the compiler or its name states, or its condition counts; 1 if none does.

        What a name states (`graph.trips`) is an average over the runs of the loop.
        """
        stated = _TRIPS.search(loop.attributes)
        if stated:
            return int(stated[1])
        average = stated_trips(loop.op_name)
        if average is not None:
            return average
        condition = re.search(r"\bcondition=%([\w.\-]+)", loop.attributes)
        inside = self.computations.get(condition[1], {}) if condition else {}
        root = next((i for i in inside.values() if i.is_root), None)
        limits = [
            i.operand_text
            for i in inside.values()
            if i.opcode == "constant" and i.arrays[:1] and i.arrays[0].dtype[0] in "su"
        ]
        counts_up = root is not None and root.opcode == "compare" and "direction=LT" in root.attributes
        return int(limits[0]) if counts_up and len(limits) == 1 and limits[0].isdecimal() else 1


def read_module(text: str) -> Module:
    """The program of `jax.jit(f).lower(...).compile().as_text()`.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    entry, inside = None, dict[str, Instruction]()
    for line in text.splitlines():
        if header := _HEADER.match(line):
            inside = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif body := _INSTRUCTION.match(line):
            instruction = _instruction(body)
            if instruction is not None:
                inside[instruction.name] = instruction
    if entry is None:
        raise ValueError("this is not the text of a compiled program: it has no entry computation")
    return Module(computations, entry)


def _instruction(line: re.Match[str]) -> Instruction | None:
    rest = line[3]
    cut = _closing(rest, 0) + 1 if rest.startswith("(") else max(rest.find(" "), 0)
    opcode = _OPCODE.match(rest, cut)
    if opcode is None:
        return None
    end = _closing(rest, opcode.end() - 1)
    return Instruction(line[2], rest[:cut], opcode[1], rest[opcode.end() : end], rest[end + 1 :], bool(line[1]))


def _closing(text: str, opening: int) -> int:
    """The position of the bracket that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.start()
    return len(text)
