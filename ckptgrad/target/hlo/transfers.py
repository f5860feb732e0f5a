"""Seconds that a program sends to the host's memory and fetches from there, as if it did nothing else meanwhile.

XLA writes the memory of an array into its layout, `S(5)` for the host's.  What goes from one memory to the other at an
instruction is the smaller of what it touches in both: an entry of a stack, or all of an array.
Does not: count on transfers going on beside arithmetic, which compilers let them where they can.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ckptgrad.target.hlo.text import Array, Instruction, Module
from ckptgrad.target.hlo.walk import total_seconds

_PLACED = re.compile(r"\b([a-z]+[a-z0-9]*)\[([\d,]+)\](?:\{([^}]*)\})?")
_HOST = "S(5)"
# What moves values; asynchronous ones do where they are started.
_MOVES = frozenset({"copy", "slice", "dynamic-slice", "dynamic-update-slice", "fusion"})


def transfer_seconds(module: Module, rate: float, without: str = "") -> float:
    """The seconds of all transfers of a program.

    Args:
        module: the program.
        rate: bytes per second, either way.
        without: a scope that is left out.
    """
    return total_seconds(module, lambda i, inside: moved_bytes(i, inside) / rate, without=without)


def moved_bytes(instruction: Instruction, inside: Mapping[str, Instruction]) -> int:
    """Bytes that an instruction sends from one memory to the other.

    Args:
        instruction: of the scheduled program.
        inside: those of its computation, by name.
    """
    if instruction.opcode.removesuffix("-start") not in _MOVES:
        return 0
    touched = [instruction, *(inside[name] for name in instruction.operands if name in inside)]
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for dtype, shape, layout in (found for i in touched for found in _PLACED.findall(i.type_text)):
        sizes[_HOST in layout].append(Array(dtype, tuple(map(int, shape.split(",")))).bytes)
    return min(max(here) for here in sizes.values()) if all(sizes.values()) else 0
