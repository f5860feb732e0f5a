"""`while` taken apart: a loop whose number of steps is known when it has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax

from ckptgrad.autodiff.joint import partition
from ckptgrad.graph.graph import Graph
from ckptgrad.rules.kinds import cast, instantiate
from ckptgrad.rules.loops.online import Online
from ckptgrad.rules.loops.step import Kept, Step
from ckptgrad.rules.subgraphs import calls_custom_vjp, typed

# Without a plan: the states that are held besides those of one group of steps.
SLOTS, GROUP = 32, 16


@dataclass(frozen=True, eq=False)
class While:
    """A loop of unknown length.

    Attributes:
        step: its body.
        predicate: whether it goes on, from its constants and the carried values.
        offset: how many constants the predicate has; they come first among the operands.
        operand_avals, out_avals: of the operands and results of the operation.
        accumulate: the dtype in which gradients of constants are summed, if it is wider than theirs.
    """

    step: Step
    predicate: Graph
    offset: int
    operand_avals: tuple[Any, ...]
    out_avals: tuple[Any, ...]
    accumulate: Any = None

    @property
    def has_custom_vjp(self) -> bool:
        """Whether a `jax.custom_vjp` function is called inside, which has no forward mode."""
        return calls_custom_vjp(self.step.body)

    @property
    def differentiated(self) -> list[bool]:
        """Which operands have a gradient, those included that come to depend on a differentiated one."""
        return [False] * self.offset + list(self.step.needs)

    def divide(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants of the body, initial carried values, and no stacked inputs."""
        start = self.offset + self.step.num_consts
        return list(operands[self.offset : start]), typed(operands[start:], self.step.carry_avals), []

    def goes_on(self, operands: Sequence[Any], carry: Sequence[Any]) -> Any:
        """Whether there is another step."""
        return self.predicate(*operands[: self.offset], *carry)[0]

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of a step: none."""
        return []

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacked values with those of a step replaced: none."""
        return []

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        consts, init, _ = self.divide(operands)

        def run(carry):
            return typed(self.step.body(*consts, *carry), self.step.carry_avals)

        return lax.while_loop(lambda carry: self.goes_on(operands, carry), run, init)

    def cotangents(self, given: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Of what is active among the carried values, zeros for None; and of no stacked outputs."""
        return [instantiate(given[i], self.step.carry_avals[i]) for i in self.step.active_carry], []

    def gradients(self, d_consts: Sequence[Any], d_init: Sequence[Any], d_xs: Sequence[Any]) -> list[Any]:
        """One entry an operand, None where nothing flows."""
        step, found = self.step, [None] * len(self.operand_avals)
        for i, value in zip(step.active_consts, d_consts, strict=True):
            found[self.offset + i] = cast(value, step.body.inputs[i].dtype)
        for i, value in zip(step.active_carry, d_init, strict=True):
            found[self.offset + step.num_consts + i] = value
        return found

    def plain_plan(self) -> Online:
        """How the loop is reversed where no plan says."""
        step = Step(self.step.body, self.step.num_consts, self.step.num_carry, self.step.needs)
        return Online(Kept(step, partition(step.joint, ())), SLOTS, GROUP)

    def plain_gradients(self, operands: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Gradients of the operands without a plan, None where nothing flows."""
        plan = self.plain_plan()
        return plan.backward(self, operands, plan.forward(self, operands)[1], given)
