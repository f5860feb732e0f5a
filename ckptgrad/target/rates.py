"""Rates of a device, and the estimated time of operations by them.

A roofline with memory traffic: products at the machine's arithmetic rate, transcendental functions at theirs, and
every byte written to or read from memory at its bandwidth, because writing residuals to fresh memory and reading
them back is what makes "store everything" slow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import jax

from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.graph.traits import is_heavy, is_materialised, is_transcendental, is_view
from ckptgrad.graph.work import flops
from ckptgrad.target.footprint import materialised, traffic


@dataclass(frozen=True)
class Machine:
    """Rates of a device, for estimates.

    Attributes:
        product_rate: floating point operations a second in products.
        element_rate: elementwise operations a second.
        transcendental_rate: exp, tanh and the like a second.
        write_rate: bytes a second written to fresh memory, page faults included.
        read_rate: bytes a second read.
        launch: seconds to start one operation inside a loop.
        cache: bytes that are near; what a loop writes and reads again beyond these goes to memory.
    """

    product_rate: float
    element_rate: float
    transcendental_rate: float
    write_rate: float
    read_rate: float
    launch: float = 0.0
    cache: float = float("inf")

    @classmethod
    def of(cls, platform: str | None = None) -> Machine:
        """Rates of this device if it was calibrated, else of a typical machine of its platform."""
        platform = platform or jax.default_backend()
        return _CALIBRATED.get(platform) or _TYPICAL.get(platform, _TYPICAL["cpu"])

    def arithmetic(self, op: Operation) -> float:
        """Seconds of an operation's arithmetic; of a planned loop all of it."""
        if op.known_cost is not None:
            return op.known_cost.seconds
        if is_heavy(op):
            return flops(op) / self.product_rate
        return flops(op) / (self.transcendental_rate if is_transcendental(op) else self.element_rate)

    def seconds(self, operations: Sequence[Operation], wanted: Collection[Variable]) -> float:
        """Estimated time of a run of operations that must produce `wanted` in memory.

        What is wanted is written to fresh memory; what is used up inside is written over and over to the same.
        """
        written, read = traffic(operations, wanted)
        made = {v for op in operations for v in op.outputs}
        fresh = sum(v.nbytes for v in set(wanted) & made)
        moved = max(0, written - fresh) + read
        return sum(map(self.arithmetic, operations)) + fresh / self.write_rate + moved / self.read_rate

    def warm_seconds(self, operations: Sequence[Operation], wanted: Collection[Variable]) -> float:
        """As `seconds` inside a loop: results are written to memory that was in use before, and starting counts."""
        made = {v for op in operations for v in op.outputs}
        fresh = sum(v.nbytes for v in {*wanted} & made)
        solid = materialised(operations, wanted)
        started = sum(any(v in solid for v in op.outputs) for op in operations)
        warm = self.seconds(operations, wanted) - fresh / self.write_rate + fresh / self.read_rate
        return warm + started * self.launch

    def again(self, op: Operation) -> float:
        """Estimated time of one operation when it is done again inside a backward."""
        if is_view(op):
            return 0.0
        moved = sum(v.nbytes for v in op.outputs) if is_materialised(op) else 0
        return self.arithmetic(op) + moved / self.read_rate

    @property
    def keeping(self) -> float:
        """Seconds a byte that is written for the backward and read by it."""
        return 1 / self.write_rate + 1 / self.read_rate


# Orders of magnitude: a few CPU cores with page faults on fresh memory; a data-centre accelerator.
_TYPICAL = {
    "cpu": Machine(2e11, 6e10, 1.5e9, 3e9, 3e10, 2e-7, 2e6),
    "gpu": Machine(2e14, 2e13, 4e12, 2e12, 2e12, 4e-6, 4e7),
    "tpu": Machine(1e14, 4e12, 1e12, 8e11, 8e11, 1e-6, 1e8),
}
_TYPICAL["cuda"] = _TYPICAL["rocm"] = _TYPICAL["gpu"]

# By platform, once `calibrate` has measured or remembered them.
_CALIBRATED: dict[str, Machine] = {}


def use_rates(platform: str, machine: Machine | None) -> None:
    """Estimate with these rates from now on; None: with the typical ones."""
    if machine is None:
        _CALIBRATED.pop(platform, None)
    else:
        _CALIBRATED[platform] = machine
