"""A loop of known length of which every step is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jax import lax

from ckptgrad.graph.graph import Variable
from ckptgrad.loops.reversals.reversal import Candidate, Offer, Reversal, reversal
from ckptgrad.loops.scan import Scan
from ckptgrad.loops.stacks import stack_variable
from ckptgrad.loops.step_costs import StepCosts


@reversal("store_all", loops=(Scan,), policies=("store_all",))
@dataclass(frozen=True, eq=False)
class StoreAll(Reversal[Scan]):
    """Each step stores what its backward reads.

    Laws: a step runs forward once, keeping what its backward reads; what is stored grows with the length.  It does
    not store entry buffers as they are at the end, from which a backward reads them: loops with these are not taken.

    A carried value that the backward reads both as it enters a step and as it leaves is stored once: what leaves one step
    enters the next.
    """

    @classmethod
    def candidates(cls, costs: StepCosts, offer: Offer) -> Iterator[Candidate]:
        """The only plan."""
        length, rates = costs.length, costs.roofline.rates
        stored = length * (costs.private + costs.read)
        fresh = stored * (1 / rates.write_rate - 1 / rates.read_rate)
        yield Candidate(
            costs,
            partial(cls, costs.replay),
            ("store_all",),
            stored=stored,
            forward_bytes=costs.forward_inside,
            backward_bytes=costs.backward_inside,
            forward_seconds=length * costs.keep + fresh,
            backward_seconds=length * costs.back,
        )

    def label(self, loop: Scan) -> str:
        """The plan in a few words."""
        return "every step stored"

    @property
    def _leaving(self) -> list[int]:
        """The carried values that are stored as they leave a step."""
        return [i for i in self.replay.next_reads if i not in self.replay.carry_reads]

    @property
    def _followed(self) -> list[int]:
        """The carried values that are read as they leave a step and stored as they enter the next."""
        return [i for i in self.replay.next_reads if i in self.replay.carry_reads]

    @property
    def stored_each(self) -> list[Variable]:
        """What each step stores."""
        carry = self.replay.body.carry_variables
        return [*self.replay.private, *(carry[i] for i in (*self.replay.carry_reads, *self._leaving))]

    def stored(self, loop: Scan) -> list[Variable]:
        """New variables for what is stored."""
        carry = self.replay.body.carry_variables
        return [*(self._stack(v, loop.length) for v in self.stored_each), *(carry[i] for i in self._followed)]

    @staticmethod
    def _stack(v: Variable, count: int) -> Variable:
        """The variable of what is stored of a value at each step."""
        return stack_variable(v, count)

    @staticmethod
    def _away(values: Sequence[Any]) -> list[Any]:
        """Values as they are stored."""
        return list(values)

    @staticmethod
    def _back(values: Sequence[Any]) -> list[Any]:
        """Values as they were before they were stored."""
        return list(values)

    def forward(self, loop: Scan, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results of the loop, and what is stored."""
        replay = self.replay
        consts, init, xs = loop.divide(operands)

        def run(carry: Any, x: Any) -> Any:
            outputs, ys, private = replay.first_kept(consts, carry, x)
            stored = private, [carry[i] for i in replay.carry_reads], [outputs[i] for i in self._leaving]
            return outputs, (ys, [self._away(group) for group in stored])

        final, (ys, stored) = lax.scan(run, init, xs, length=loop.length, reverse=loop.reverse, unroll=loop.unroll)
        after = [final[i] for i in self._followed]
        return [*final, *ys], [x for group in (*stored, after) for x in group]

    def backward(
        self, loop: Scan, operands: Sequence[Any], stored: Sequence[Any], cotangents: Sequence[Any | None]
    ) -> list[Any | None]:
        """Gradients of the operands."""
        replay, body = self.replay, self.replay.body
        consts, _, xs = loop.divide(operands)
        ct_carry, ct_ys = loop.cotangents(cotangents)
        k = len(replay.private)
        m = k + len(replay.carry_reads)
        end = m + len(self._leaving)
        followed = self._followed

        def back(state: Any, x: Any) -> Any:
            ct, sums, followed_after = state
            *stored, x_reads, ct_y = x
            private, arriving, left = map(self._back, stored)
            entering = dict(zip(replay.carry_reads, arriving, strict=True))
            leaving = dict(zip(followed, followed_after, strict=True))
            leaving.update(zip(self._leaving, left, strict=True))
            after = [leaving[i] for i in replay.next_reads]
            seeds = body.cotangents(ct, ct_y, sums)
            start = replay.backward_env(consts, arriving, after, private, x_reads, seeds)
            d_consts, d_carry, d_xs = replay.back(start)
            sums = body.added(sums, d_consts)
            return (d_carry, sums, [entering[i] for i in followed]), d_xs

        inputs = (stored[:k], stored[k:m], stored[m:end], [xs[i] for i in replay.x_reads], ct_ys)
        start = (ct_carry, body.sums(loop.accumulate), list(stored[end:]))
        (d_init, sums, _), d_xs = lax.scan(
            back, start, inputs, length=loop.length, reverse=not loop.reverse, unroll=loop.unroll
        )
        return loop.gradients(sums, d_init, d_xs)
