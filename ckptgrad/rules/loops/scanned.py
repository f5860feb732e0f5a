"""`scan` taken apart: its step, and where its operands and results are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax

from ckptgrad.rules.kinds import cast, instantiate
from ckptgrad.rules.loops.buffers import put_each, take_each
from ckptgrad.rules.loops.step import Step
from ckptgrad.rules.loops.store_all import StoreAll
from ckptgrad.rules.subgraphs import calls_custom_vjp, typed


@dataclass(frozen=True, eq=False)
class Scan:
    """A loop of known length.

    Attributes:
        step: its body.
        length: how many steps it has.
        reverse: whether it goes from the last stacked input to the first.
        unroll: as `lax.scan` takes it.
        operand_avals, out_avals: of the operands and results of the operation.
        accumulate: the dtype in which gradients of constants are summed, if it is wider than theirs.
    """

    step: Step
    length: int
    reverse: bool
    unroll: int
    operand_avals: tuple[Any, ...]
    out_avals: tuple[Any, ...]
    accumulate: Any = None

    @property
    def has_custom_vjp(self) -> bool:
        """Whether a `jax.custom_vjp` function is called inside, which has no forward mode."""
        return calls_custom_vjp(self.step.body)

    def divide(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants, initial carried values, stacked inputs."""
        n, c = self.step.num_consts, self.step.num_carry
        init = typed(operands[n : n + c], self.step.carry_avals)
        return list(operands[:n]), init, list(operands[n + c :])

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        consts, init, xs = self.divide(operands)
        c = self.step.num_carry

        def run(carry, x):
            outputs = typed(self.step.body(*consts, *carry, *x), self.step.out_avals)
            return outputs[:c], outputs[c:]

        final, ys = lax.scan(run, init, xs, length=self.length, reverse=self.reverse, unroll=self.unroll)
        return [*final, *ys]

    def place(self, i: Any) -> Any:
        """Where the stacked values of step i are."""
        return self.length - 1 - i if self.reverse else i

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of step i."""
        return take_each(xs, self.place(i)) if xs else []

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacks with the entries of step i replaced."""
        return put_each(stacks, values, self.place(i)) if stacks else []

    def cotangents(self, given: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Of what is active among carried values and stacked outputs; zeros for None."""
        c = self.step.num_carry
        carry = [instantiate(given[i], self.step.carry_avals[i]) for i in self.step.active_carry]
        return carry, [instantiate(given[c + i], self.out_avals[c + i]) for i in self.step.active_ys]

    def gradients(self, d_consts: Sequence[Any], d_init: Sequence[Any], d_xs: Sequence[Any]) -> list[Any]:
        """One entry an operand, None where nothing flows."""
        step = self.step
        n, c = step.num_consts, step.num_carry
        found: list[Any] = [None] * len(self.operand_avals)
        avals = [step.body.inputs[i].aval for i in step.active_consts]
        for positions, offset, values in (
            (step.active_consts, 0, [cast(d, a.dtype) for d, a in zip(d_consts, avals, strict=True)]),
            (step.active_carry, n, d_init),
            (step.active_xs, n + c, d_xs),
        ):
            for i, value in zip(positions, values, strict=True):
                found[offset + i] = value
        return found

    @property
    def differentiated(self) -> list[bool]:
        """Which operands have a gradient, those included that come to depend on a differentiated one."""
        step = self.step
        n, c = step.num_consts, step.num_carry
        found = {*step.active_consts, *(n + i for i in step.active_carry), *(n + c + i for i in step.active_xs)}
        return [i in found for i in range(len(self.operand_avals))]

    def plain_gradients(self, operands: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Gradients of the operands with every step stored, None where nothing flows."""
        step = self.step
        plan = StoreAll(Step(step.body, step.num_consts, step.num_carry, step.needs).everything)
        return plan.backward(self, operands, plan.forward(self, operands)[1], given)
