"""How much a compiled program does in one run: the arithmetic of its products, and its collectives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ckptgrad.target.hlo.collectives import channel_of, kind_of
from ckptgrad.target.hlo.products import product_of
from ckptgrad.target.hlo.text import Instruction, Module


class Executed(NamedTuple):
    """An instruction that runs, wherever it was fused.

    Attributes:
        times: how often; inside loops, in every trip, of which there may be an average number only.
        instruction, inside: it, and the instructions of its computation by name.
        host: the scheduled computation that it runs in, or into a fusion of which it was fused.
    """

    times: float
    instruction: Instruction
    inside: Mapping[str, Instruction]
    host: str


def executed(module: Module) -> Iterator[Executed]:
    """The instructions of a program, those of calls, loops and fusions among them; of branches those of each."""

    def of(name: str, times: float, host: str) -> Iterator[Executed]:
        inside = module.computations.get(name, {})
        for i in inside.values():
            yield Executed(times, i, inside, host)
            if i.opcode in ("fusion", "async-start"):
                for called in i.called:
                    yield from of(called, times, host)
            elif i.opcode in ("while", "call", "conditional"):
                repeated = times * (module.trips(i) if i.opcode == "while" else 1)
                for called in (*i.called, *i.branches):
                    yield from of(called, repeated, called)

    return of(module.entry, 1, module.entry)


def product_flops(module: Module) -> int:
    """The arithmetic of all products and convolutions of a program, on one device."""
    found = ((e.times, product_of(e.instruction, e.inside)) for e in executed(module))
    return round(sum(times * product.flops for times, product in found if product is not None))


def collective_counts(module: Module) -> Counter[str]:
    """How many collectives of each kind, by XLA's name, a device takes part in; one that several fusions carry on is one."""
    sent: dict[tuple[str, str], tuple[str, float]] = {}
    for times, instruction, _, host in executed(module):
        kind = kind_of(instruction)
        if kind is not None:
            sent[host, channel_of(instruction)] = kind, times
    totals: dict[str, float] = {}
    for kind, times in sent.values():
        totals[kind] = totals.get(kind, 0.0) + times
    return Counter({kind: round(total) for kind, total in totals.items()})
