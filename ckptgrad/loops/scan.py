"""`scan` taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax

from ckptgrad.loops.body import Step
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.reversals.store_all import StoreAll
from ckptgrad.loops.stacks import put_each, take_each
from ckptgrad.rules.subgraphs import typed


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan(Loop):
    """A loop of known length.

    Attributes:
        length: how many steps it has.
        reverse: whether it goes from the last stacked input to the first.
        unroll: as `lax.scan` takes it.
    """

    length: int
    reverse: bool
    unroll: int

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        consts, init, xs = self.divide(operands)
        c = self.step.num_carry

        def run(carry, x):
            outputs = typed(self.step.body(*consts, *carry, *x), self.step.out_avals)
            return outputs[:c], outputs[c:]

        final, ys = lax.scan(run, init, xs, length=self.length, reverse=self.reverse, unroll=self.unroll)
        return [*final, *ys]

    def plan_of(self, step: Step) -> StoreAll:
        """Every step stored."""
        return StoreAll(step.everything)

    def _place(self, i: Any) -> Any:
        return self.length - 1 - i if self.reverse else i

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of step i."""
        return take_each(xs, self._place(i)) if xs else []

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacks with the entries of step i replaced."""
        return put_each(stacks, values, self._place(i)) if stacks else []
