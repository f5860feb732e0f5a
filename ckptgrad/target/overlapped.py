"""Seconds of a run of operations where the parts of a fusion go on beside each other.

On TPUs the matrix units work beside the vector units and the memory: a fusion takes as long as the slower of them does.  A
product takes the cheap work before and after it into its fusion, and what folds the result of that, too. That work and the
moving of what is read and written follow each other there, as a v5e's compiler counts: elsewhere they go on at once.  What
several fusions read is made in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.traits import is_heavy, is_reduction
from ckptgrad.target.stored import fused_roots, is_fused, stored_beside_products
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


@dataclass
class _Waiting:
    """A product that awaits the work that follows it.

    Attributes:
        product: seconds of its arithmetic.
        beside: seconds of what goes on beside that: its operands are made and moved.
    """

    product: float
    beside: float


class _Fusions:
    def __init__(self, operations: Sequence[Operation], results: Collection[Variable], target: Target, near: bool) -> None:
        self.operations, self.results, self.target, self.near = operations, {*results}, target, near
        stored = stored_beside_products(operations, results, target)
        self.solid, self.passed = stored.solid, stored.passed
        self.made = {v for op in operations for v in op.outputs}
        self.sources: dict[Variable, frozenset[Variable]] = {}
        self.own: list[float] = []
        # Of what is fused into its readers the operations that each of them does, as bits by their positions.
        self.fused: dict[Variable, int] = {}
        self.waiting: dict[Variable, _Waiting] = {}
        # Seconds for which the vector units of a fusion are idle.
        self.idle: dict[Variable, float] = {}

    def seconds(self, arithmetic: Callable[[Operation], float]) -> float:
        total = 0.0
        for op in self.operations:
            roots = fused_roots(op, self.solid, self.sources)
            self.sources.update(dict.fromkeys(op.outputs, roots))
            total += self._of(op, arithmetic(op), roots)
        return total + sum(max(w.product, w.beside + self._moving([v], ())) for v, w in self.waiting.items())

    def _of(self, op: Operation, own: float, roots: Collection[Variable]) -> float:
        """The seconds that are known to pass once an operation is seen: none for what is fused into later ones."""
        stored = [v for v in op.outputs if v in self.solid]
        before = 0
        for v in variables_of(op.inputs):
            before |= 0 if v in self.solid else self.fused.get(v, 0)
        self.own.append(own)
        is_alone = is_heavy(op) and not is_fused(op, self.target)
        if not stored and op.known_cost is None and not is_alone:
            self.fused.update(dict.fromkeys(op.outputs, before | 1 << len(self.own) - 1))
            return 0.0
        cheap = self._together(before)
        if op.known_cost is not None:
            return own + cheap
        if is_alone:
            if stored and self.results.isdisjoint(stored):
                self.waiting[stored[0]] = _Waiting(own, cheap + self._moving(stored[1:], roots))
                return 0.0
            return max(own, cheap + self._moving(stored, roots))
        return self._following(op, own, cheap, stored, roots)

    def _following(
        self, op: Operation, own: float, cheap: float, stored: Sequence[Variable], roots: Collection[Variable]
    ) -> float:
        """Of cheap work that is written: alone, or in the fusion of a product."""
        folds = is_reduction(op)
        products = [v for v in roots if v in self.waiting and (folds or v in self.passed)]
        if folds:
            beside = [v for v in roots if v in self.idle]
            if beside or products:
                own *= FOLDED_AS_MADE
            own -= sum(self.idle.pop(v) for v in beside)
            roots = [v for v in roots if v not in beside]
        cheap = max(0.0, cheap + own)
        written = [*stored, *(v for v in products if v not in self.passed)]
        moving = self._moving(written, [v for v in roots if v not in products])
        if not products:
            return max(cheap, moving)
        waited = [self.waiting.pop(v) for v in products]
        product, others = sum(w.product for w in waited), cheap + moving + sum(w.beside for w in waited)
        if product > others:
            self.idle[stored[0]] = product - others
        return max(product, others)

    def _together(self, operations: int) -> float:
        """The seconds of operations, given as bits by their positions."""
        total = 0.0
        while operations:
            last = operations.bit_length() - 1
            total += self.own[last]
            operations ^= 1 << last
        return total

    def _moving(self, written: Iterable[Variable], read: Iterable[Variable]) -> float:
        """Seconds in which what a fusion writes and reads is moved."""
        if self.near:
            written, read = (v for v in written if v in self.results), (v for v in read if v not in self.made)
        rates = self.target.rates
        return self.target.moved_bytes(written) / rates.write_rate + self.target.moved_bytes(read) / rates.read_rate
