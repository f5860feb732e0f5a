"""The tuples of a compiled program for which a compiler takes memory beside their elements.

XLA gives each tuple a table of where its elements are.  The TPU compiler keeps a place in the device's memory for each of
them through the whole program: what an instruction makes that starts to copy or to gather, or that makes several arrays.
"""

from __future__ import annotations

import re

from ckptgrad.target.hlo.text import Instruction, Module

# The layout of an array, which has brackets of its own.
_LAYOUT = re.compile(r"\{[^}]*\}")
# What has the tuple of its operand for its own.
_SAME = frozenset({"parameter", "get-tuple-element", "bitcast", "opt-barrier", "while"})
# What runs computations whose tuples are as those of the program; fusions have none of their own.
_RUNS = frozenset({"while", "conditional", "call"})


def count_tables(module: Module) -> int:
    """The number of tables of a program, those of tuples inside of tuples included; the result of the program has none."""
    tables, seen, waiting = 0, set[str](), [module.entry]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for instruction in module.computations.get(name, {}).values():
            tables += 0 if instruction.is_root or instruction.opcode in _SAME else _tuples(instruction)
            if instruction.opcode in _RUNS:
                waiting += [*instruction.called, *instruction.branches]
    return tables


def _tuples(instruction: Instruction) -> int:
    text = instruction.type_text
    return _LAYOUT.sub("", text).count("(") if text.startswith("(") else 0
