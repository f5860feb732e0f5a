"""The seconds of a program as the sum of those of its instructions: loop bodies as often as they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ckptgrad.target.hlo.text import Instruction, Module

# Instructions that hand over to computations, which are walked in their place.
_LOOP, _BRANCH = "while", "conditional"
_CALLS = frozenset({"call", "async-start"})

# From an instruction, and those of its computation by name, to seconds.
Price = Callable[[Instruction, Mapping[str, Instruction]], float]


def total_seconds(module: Module, price: Price, without: str = "") -> float:
    """The seconds of a program.

    Args:
        module: the program.
        price: the seconds of one instruction that is neither a loop, a branch nor a call.
        without: JAX's name of a scope whose instructions are left out; empty for none.
    """

    def of(name: str) -> float:
        inside = module.computations.get(name, {})
        return sum(one(i, inside) for i in inside.values() if not (without and without in i.op_name.split("/")))

    def one(instruction: Instruction, inside: Mapping[str, Instruction]) -> float:
        if instruction.opcode == _LOOP:
            return module.trips(instruction) * sum(map(of, instruction.called))
        if instruction.opcode == _BRANCH:
            return max(map(of, instruction.branches), default=0.0)
        if instruction.opcode in _CALLS:
            return sum(map(of, instruction.called))
        return price(instruction, inside)

    return of(module.entry)
