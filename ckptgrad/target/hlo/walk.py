"""The seconds of a program: of its instructions one after another, loop bodies as often as they run, beside its collectives.

What devices send each other goes on while they compute, from where it is started to where it is waited for, one collective
after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ckptgrad.target.hlo.collectives import collectives_of, is_started, is_waited_for, kind_of
from ckptgrad.target.hlo.text import Instruction, Module
from ckptgrad.target.links import Links

# Instructions that hand over to computations, which are walked in their place.
_LOOP, _BRANCH = "while", "conditional"
_CALLS = frozenset({"call", "async-start"})

# From an instruction, and those of its computation by name, to seconds.
Price = Callable[[Instruction, Mapping[str, Instruction]], float]


def total_seconds(module: Module, price: Price, links: Links | None = None, without: str = "") -> float:
    """The seconds of a program.

    Args:
        module: the program.
        price: the seconds of one instruction that is neither a loop, a branch, a call nor a collective.
        links: between devices; None: what they send each other takes no time.
        without: JAX's name of a scope whose instructions are left out; empty for none.
    """

    def of(name: str) -> float:
        inside = module.computations.get(name, {})
        wires = _Wires(module, links)
        clock = 0.0
        for i in inside.values():
            if not (without and without in i.op_name.split("/")):
                clock = wires.after(i, inside, clock, one(i, inside))
        return clock

    def one(instruction: Instruction, inside: Mapping[str, Instruction]) -> float:
        if kind_of(instruction) is not None:
            return 0.0
        if instruction.opcode == _LOOP:
            return module.trips(instruction) * sum(map(of, instruction.called))
        if instruction.opcode == _BRANCH:
            return max(map(of, instruction.branches), default=0.0)
        if instruction.opcode in _CALLS:
            return sum(map(of, instruction.called))
        return price(instruction, inside)

    return of(module.entry)


class _Wires:
    """The links of a device, while it runs one computation."""

    def __init__(self, module: Module, links: Links | None) -> None:
        self._module, self._links = module, links
        # When all that was started is over, each collective, and what each instruction started.
        self._free = 0.0
        self._ends: dict[str, float] = {}
        self._started: dict[str, list[str]] = {}

    def after(self, instruction: Instruction, inside: Mapping[str, Instruction], clock: float, seconds: float) -> float:
        """When an instruction of so many seconds is over that begins at `clock`."""
        if self._links is None:
            return clock + seconds
        sent = list(collectives_of(instruction, self._module, self._links, inside))
        begun = [s.channel for s in sent if s.channel not in self._ends]
        for collective in sent:
            if collective.channel in begun:
                self._free = self._ends[collective.channel] = max(self._free, clock) + collective.seconds
        channels = [c for name in instruction.operands for c in self._started.get(name, ())] + [s.channel for s in sent]
        if is_waited_for(instruction, self._module):
            return self._at_least(clock + seconds, channels)
        if is_started(instruction, self._module) or instruction.opcode.endswith("-update"):
            self._started[instruction.name] = channels
            begun = []
        return self._at_least(clock, begun) + seconds

    def _at_least(self, clock: float, channels: Iterable[str]) -> float:
        return max([clock, *(self._ends[channel] for channel in channels)])
