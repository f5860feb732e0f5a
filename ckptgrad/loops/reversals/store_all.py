"""A scan of which every step is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jax import lax

from ckptgrad.loops.body import Kept
from ckptgrad.loops.stacks import stacked

if TYPE_CHECKING:
    from ckptgrad.loops.scan import Scan


@dataclass(frozen=True, eq=False)
class StoreAll:
    """Each step stores what its backward reads.

    A carried value that the backward reads both as it came into the step and as it left is stored once: what left one
    step came into the next.
    """

    kept: Kept

    @property
    def _leaving(self) -> list[int]:
        """The carried values that are stored as they leave the step."""
        return [i for i in self.kept.next_reads if i not in self.kept.carry_reads]

    @property
    def _followed(self) -> list[int]:
        """The carried values that are read as they leave the step and stored as they come into the next."""
        return [i for i in self.kept.next_reads if i in self.kept.carry_reads]

    def stored_avals(self, loop: Scan) -> list[Any]:
        """The types of what is stored."""
        kept, avals = self.kept, self.kept.step.carry_avals
        each = [v.aval for v in kept.private] + [avals[i] for i in (*kept.carry_reads, *self._leaving)]
        return [stacked(a, loop.length) for a in each] + [avals[i] for i in self._followed]

    def forward(self, loop: Scan, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and what is stored."""
        kept = self.kept
        consts, init, xs = loop.divide(operands)

        def run(carry, x):
            outputs, ys, private = kept.first_kept(consts, carry, x)
            stored = private, [carry[i] for i in kept.carry_reads], [outputs[i] for i in self._leaving]
            return outputs, (ys, stored)

        final, (ys, stored) = lax.scan(run, init, xs, length=loop.length, reverse=loop.reverse, unroll=loop.unroll)
        after = [final[i] for i in self._followed]
        return [*final, *ys], [x for group in (*stored, after) for x in group]

    def backward(self, loop: Scan, operands: Sequence[Any], stored: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Gradients of the operands, None where nothing flows.

        Args:
            loop: the loop.
            operands: of the operation.
            stored: what the forward stored.
            given: cotangents of the results, None for zero.
        """
        kept, step = self.kept, self.kept.step
        consts, _, xs = loop.divide(operands)
        ct_carry, ct_ys = loop.cotangents(given)
        k = len(kept.private)
        m = k + len(kept.carry_reads)
        end = m + len(self._leaving)
        followed = self._followed

        def back(state, x):
            ct, sums, after = state
            private, arriving, left, x_reads, ct_y = x
            came, went = dict(zip(kept.carry_reads, arriving, strict=True)), dict(zip(followed, after, strict=True))
            went.update(zip(self._leaving, left, strict=True))
            leaving = [went[i] for i in kept.next_reads]
            given = kept.given(consts, arriving, leaving, private, x_reads, step.cotangents(ct, ct_y, sums))
            d_consts, d_carry, d_xs = kept.back(given)
            sums = step.added(sums, d_consts)
            return (d_carry, sums, [came[i] for i in followed]), d_xs

        inputs = (stored[:k], stored[k:m], stored[m:end], [xs[i] for i in kept.x_reads], ct_ys)
        start = (ct_carry, step.sums(loop.accumulate), list(stored[end:]))
        (d_init, sums, _), d_xs = lax.scan(
            back, start, inputs, length=loop.length, reverse=not loop.reverse, unroll=loop.unroll
        )
        return loop.gradients(sums, d_init, d_xs)
