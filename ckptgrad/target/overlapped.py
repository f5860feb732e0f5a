"""Seconds of a run of operations where the parts of a fusion go on beside each other.

On TPUs the matrix units, the vector units and the memory work at the same time: a fusion takes as long as the slowest of
them does.  A product takes the cheap work before and after it into its fusion, and what folds the result of that, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_heavy, is_reduction
from ckptgrad.target.stored import fused_roots, stored_beside_products
from ckptgrad.target.target import Target

# The share of its time that it takes to fold what a product's fusion makes, there and then: a v5e's compiler counts 0.57 for
# the maxima of scores, and less for the gradients of biases.
FOLDED_AS_MADE = 0.6


def overlapped_seconds(
    operations: Sequence[Operation],
    results: Collection[Variable],
    target: Target,
    arithmetic: Callable[[Operation], float],
    near: bool = False,
) -> float:
    """Estimated seconds of operations, fusion after fusion.

    Args:
        operations: in the order they run.
        results: values that must be in memory at the end.
        target: what they are compiled for.
        arithmetic: seconds of an operation's arithmetic; of a planned loop all of it.
        near: whether what is made in between stays in near memory, so that operands and results alone are moved.
    """
    return _Fusions(operations, results, target, near).seconds(arithmetic)


class _Fusions:
    def __init__(self, operations: Sequence[Operation], results: Collection[Variable], target: Target, near: bool) -> None:
        self.operations, self.results, self.target, self.near = operations, {*results}, target, near
        self.solid = stored_beside_products(operations, results, target).solid
        self.made = {v for op in operations for v in op.outputs}
        self.sources: dict[Variable, frozenset[Variable]] = {}
        # Seconds of cheap work that is fused into readers, of products that await the work that follows them, and for which
        # the vector units of such a fusion are idle.
        self.cheap: dict[Variable, float] = {}
        self.waiting: dict[Variable, float] = {}
        self.idle: dict[Variable, float] = {}

    def seconds(self, arithmetic: Callable[[Operation], float]) -> float:
        total = 0.0
        for op in self.operations:
            roots = fused_roots(op, self.solid, self.sources)
            self.sources.update(dict.fromkeys(op.outputs, roots))
            total += self._of(op, arithmetic(op), roots)
        return total + sum(self.cheap.values()) + sum(self.waiting.values())

    def _of(self, op: Operation, own: float, roots: Collection[Variable]) -> float:
        """The seconds that are known to pass once an operation is seen: none for what is fused into later ones."""
        stored = [v for v in op.outputs if v in self.solid]
        cheap = sum(self.cheap.pop(v, 0.0) for v in {*variables_of(op.inputs)})
        if op.known_cost is not None:
            return own + cheap
        if is_heavy(op):
            seconds = max(own, cheap, self._moving(stored, roots))
            if stored and self.results.isdisjoint(stored):
                self.waiting[stored[0]] = seconds
                return 0.0
            return seconds
        cheap += own
        if not stored:
            self.cheap.update(dict.fromkeys(op.outputs[:1], cheap))
            return 0.0
        fused = [v for v in roots if v in self.waiting]
        if is_reduction(op):
            beside = [v for v in roots if v in self.idle]
            if beside or fused:
                cheap -= (1 - FOLDED_AS_MADE) * own
            cheap = max(0.0, cheap - sum(self.idle.pop(v) for v in beside))
            roots = [v for v in roots if v not in beside]
        product = sum(self.waiting.pop(v) for v in fused)
        if product > cheap:
            self.idle[stored[0]] = product - cheap
        return max(product, cheap, self._moving(stored, [v for v in roots if v not in fused]))

    def _moving(self, written: Iterable[Variable], read: Iterable[Variable]) -> float:
        """Seconds in which what a fusion writes and reads is moved."""
        if self.near:
            written, read = (v for v in written if v in self.results), (v for v in read if v not in self.made)
        rates = self.target.rates
        return self.target.total_bytes(written) / rates.write_rate + self.target.total_bytes(read) / rates.read_rate
