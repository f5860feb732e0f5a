"""Seconds that operations take on a target, estimated by its rates.

A roofline with memory traffic: products at the device's arithmetic rate, transcendental functions at theirs, and every
byte written to or read from memory at its bandwidth, because writing residuals to fresh memory and reading them back is
what makes "store everything" slow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from jax import numpy as jnp

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.spread import devices_sharing, transfers
from ckptgrad.graph.traits import is_heavy, is_materialised, is_random, is_reduction, is_transcendental, is_view
from ckptgrad.graph.work import flops
from ckptgrad.target.footprint import traffic
from ckptgrad.target.overlapped import overlapped_seconds
from ckptgrad.target.rates import Rates
from ckptgrad.target.stored import is_fused, materialised
from ckptgrad.target.target import Target


@dataclass(frozen=True)
class Roofline:
    """Estimates of seconds for a target."""

    target: Target
    # By operation: the options of a stage are runs of the same operations.
    _arithmetic: dict[Operation, float] = field(default_factory=dict[Operation, float], compare=False, repr=False)

    @property
    def rates(self) -> Rates:
        """The rates behind the estimates."""
        return self.target.rates

    def arithmetic(self, op: Operation) -> float:
        """Seconds of an operation's arithmetic and of what devices send each other in it; of a planned loop all of it."""
        seconds = self._arithmetic.get(op)
        if seconds is None:
            seconds = self._arithmetic[op] = self._arithmetic_of(op)
        return seconds

    def _arithmetic_of(self, op: Operation) -> float:
        if op.known_cost is not None:
            return op.known_cost.seconds
        if is_random(op):
            rate = self.rates.element_rate
        elif is_heavy(op):
            rate = self._products(op)
        elif is_reduction(op):
            rate = self.rates.reduction_rate or self.rates.element_rate
        else:
            rate = self.rates.transcendental_rate if is_transcendental(op) else self.rates.element_rate
        return flops(op) / devices_sharing(op) / rate + self._sending(op)

    def _sending(self, op: Operation) -> float:
        """Seconds in which a device receives what it needs of others."""
        links = self.target.links
        return 0.0 if links is None else sum(links.seconds(t.received, t.span) for t in transfers(op))

    def _products(self, op: Operation) -> float:
        """Operations per second of a product, of numbers of the type of its result."""
        dtype = getattr(op.outputs[0].aval, "dtype", None) if op.outputs else None
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            return self.rates.product_rate
        bits = 8 * dtype.itemsize // (2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1)
        return self.rates.products(bits, exact="HIGHEST" in str(op.params.get("precision")))

    def seconds(self, operations: Sequence[Operation], results: Collection[Variable]) -> float:
        """Estimated time of a run of operations that must leave `results` in memory.

        Results are written to fresh memory; intermediates reuse the same memory.
        """
        seconds = self._run(operations, results, self.rates.write_rate)
        return seconds + self._starting(operations, results) if self.target.platform.starts_kernels else seconds

    def warm_seconds(self, operations: Sequence[Operation], results: Collection[Variable]) -> float:
        """As `seconds` inside a loop: results are written to memory that was in use before, and starting counts."""
        return self._run(operations, results, self.rates.read_rate) + self._starting(operations, results)

    def _run(self, operations: Sequence[Operation], results: Collection[Variable], result_rate: float) -> float:
        if self.target.platform.overlaps:
            return overlapped_seconds(operations, results, self.target, self.arithmetic)
        written, read = traffic(operations, results, self.target)
        fresh = self._bytes_made(operations, results)
        moved = max(0, written - fresh) + read
        arithmetic = sum(map(self.arithmetic, operations))
        return arithmetic + fresh / result_rate + moved / self.rates.read_rate

    def near_seconds(self, operations: Sequence[Operation], results: Collection[Variable]) -> float:
        """As `warm_seconds`, where only operands and results are moved: what is made in between stays in near memory."""
        if self.target.platform.overlaps:
            between = overlapped_seconds(operations, results, self.target, self.arithmetic, near=True)
            return between + self._starting(operations, results)
        made = {v for op in operations for v in op.outputs}
        given = {v for op in operations for v in variables_of(op.inputs)} - made
        moved = self.target.total_bytes(given) + self._bytes_made(operations, results)
        arithmetic = sum(map(self.arithmetic, operations))
        return arithmetic + moved / self.rates.read_rate + self._starting(operations, results)

    def _starting(self, operations: Sequence[Operation], results: Collection[Variable]) -> float:
        solid = materialised(operations, results, self.target)
        return sum(any(v in solid for v in op.outputs) for op in operations) * self.rates.launch

    def again(self, op: Operation) -> float:
        """Estimated time of one operation when it is done again inside a backward."""
        if is_view(op):
            return 0.0
        written = is_materialised(op) and not is_fused(op, self.target)
        moved = self.target.total_bytes(op.outputs) if written else 0
        return self.arithmetic(op) + moved / self.rates.read_rate

    @property
    def keeping(self) -> float:
        """Seconds per byte that is written for the backward and read by it."""
        return 1 / self.rates.write_rate + 1 / self.rates.read_rate

    def _bytes_made(self, operations: Sequence[Operation], results: Collection[Variable]) -> int:
        made = {v for op in operations for v in op.outputs}
        return self.target.total_bytes({*results} & made)
