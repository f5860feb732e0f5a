"""Seconds of a program as a sum over its kernels, each by a roofline: for compilers that state no estimate of their own.

A kernel is one instruction of the scheduled program: what was fused is one kernel, which reads its operands and writes its
results and nothing between. It takes as long as it moves these bytes, or does its arithmetic, whichever is more, and a
while to start. Williams, Waterman and Patterson, Roofline (2009).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckptgrad.target.hlo.products import product_of
from ckptgrad.target.hlo.text import Instruction, Module
from ckptgrad.target.hlo.walk import total_seconds
from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates

# Instructions without a kernel of their own.
_FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier", "after-all", "add-dependency", "domain",
    "partition-id", "replica-id", "async-done", "async-update", "copy-done", "all-reduce-done", "all-gather-done",
    "collective-permute-done", "send-done", "recv-done",
})  # fmt: skip
_TRANSCENDENTAL = frozenset({
    "exponential", "exponential-minus-one", "log", "log-plus-one", "logistic", "tanh", "tan", "sine", "cosine", "atan2",
    "power", "rsqrt", "sqrt", "cbrt", "erf",
})  # fmt: skip
# Instructions that read a part of their first operand.
_PARTS = frozenset({"slice", "dynamic-slice", "gather"})
# Instructions without arithmetic.
_MOVES = frozenset({"reshape", "copy", "convert", "transpose", "broadcast", "iota", "fusion", *_PARTS})
# The elements of the scratch that a library's call returns beside its results.
WORKSPACE = frozenset({"u8", "s8"})


def kernel_seconds(module: Module, rates: Rates, links: Links | None = None, without: str = "") -> float:
    """The seconds of a program by the rates of its device.

    Args:
        module: the program.
        rates: of the device.
        links: between devices; None: what they send each other takes no time.
        without: a scope that is left out.
    """
    kernels = _Kernels(module, rates)
    return total_seconds(module, kernels.seconds, links, without)


@dataclass(frozen=True)
class _Kernels:
    module: Module
    rates: Rates

    def seconds(self, instruction: Instruction, inside: Mapping[str, Instruction]) -> float:
        """The seconds of one instruction of the scheduled program."""
        if instruction.opcode in _FREE:
            return 0.0
        moved = (
            self._read(instruction, inside) / self.rates.read_rate
            + self._written(instruction, inside) / self.rates.write_rate
        )
        return self.rates.launch + max(moved, self._arithmetic(instruction, inside))

    def _fused(self, instruction: Instruction) -> Iterator[Mapping[str, Instruction]]:
        """The computations inside a fusion, those of fusions inside it too."""
        for name in instruction.called if instruction.opcode == "fusion" else ():
            inside = self.module.computations.get(name, {})
            yield inside
            for inner in inside.values():
                yield from self._fused(inner)

    def _arithmetic(self, instruction: Instruction, inside: Mapping[str, Instruction]) -> float:
        seconds = 0.0
        bodies = list(self._fused(instruction))
        work = [(i, body) for body in bodies for i in body.values()] or [(instruction, inside)]
        for i, body in work:
            product = product_of(i, body)
            if product is not None:
                seconds += product.flops / self.rates.products(product.bits, exact=product.is_exact)
            elif i.opcode not in _FREE | _MOVES:
                elements = max((a.size for a in i.arrays), default=0)
                if i.opcode in ("reduce", "reduce-window") and i.operands and i.operands[0] in body:
                    elements = max(elements, *(a.size for a in body[i.operands[0]].arrays))
                is_slow = i.opcode in _TRANSCENDENTAL
                seconds += elements / (self.rates.transcendental_rate if is_slow else self.rates.element_rate)
        return seconds

    def _read(self, instruction: Instruction, inside: Mapping[str, Instruction]) -> int:
        """Bytes that a kernel reads: of an operand of which a fusion reads parts, these."""
        sizes = [inside[name].bytes if name in inside else 0 for name in instruction.operands]
        if instruction.opcode in _PARTS:
            return instruction.bytes + sum(sizes[1:])
        if instruction.opcode == "dynamic-update-slice":
            return sum(sizes[1:])
        for body in list(self._fused(instruction))[:1]:
            for i in body.values():
                if i.opcode == "parameter":
                    number = int(i.operand_text)
                    sizes[number] = min(sizes[number], _read_inside(i, body))
        return sum(sizes)

    def _written(self, instruction: Instruction, inside: Mapping[str, Instruction]) -> int:
        """Bytes that a kernel writes: of an array updated in place, the update; of a library's call, no workspace."""
        if instruction.opcode == "custom-call":
            return sum(a.bytes for a in instruction.arrays if a.dtype not in WORKSPACE) or instruction.bytes
        bodies = list(self._fused(instruction))[:1] or [{instruction.name: instruction, **inside}]
        updates = [(i, body) for body in bodies for i in body.values() if i.opcode == "dynamic-update-slice"]
        if instruction.opcode != "fusion":
            updates = [(i, body) for i, body in updates if i is instruction]
        untouched = sum(i.bytes - body[i.operands[1]].bytes for i, body in updates if i.operands[1] in body)
        return max(0, instruction.bytes - untouched)


def _read_inside(parameter: Instruction, body: Mapping[str, Instruction]) -> int:
    """Bytes of a parameter that a fused computation reads."""
    total, waiting = 0, [parameter]
    while waiting:
        value = waiting.pop()
        for reader in (i for i in body.values() if value.name in i.operands):
            if reader.opcode == "bitcast":
                waiting.append(reader)
            elif reader.opcode in _PARTS and reader.operands[0] == value.name:
                total += reader.bytes
            elif reader.opcode == "dynamic-update-slice" and reader.operands[0] == value.name:
                continue
            else:
                return parameter.bytes
    return total
