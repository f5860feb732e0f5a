"""A loop taken apart: what all kinds of loops have in common, and how one is reversed where no plan says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Graph
from ckptgrad.loops.body import Step
from ckptgrad.rules.decorators import cast, instantiate
from ckptgrad.rules.subgraphs import calls_custom_vjp, typed


class LoopPlan(Protocol):
    """How a loop is reversed."""

    def stored_avals(self, loop: Any) -> list[Any]:
        """The types of what the forward stores for the backward."""
        ...

    def forward(self, loop: Any, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Results, and what is stored."""
        ...

    def backward(self, loop: Any, operands: Sequence[Any], stored: Sequence[Any], given: Sequence[Any]) -> list[Any]:
        """Gradients of the operands from cotangents of the results (None: zero); None where nothing flows."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Loop:
    """A loop taken apart.

    Attributes:
        step: its body.
        operand_avals, out_avals: of the operands and results of the operation.
        offset: how many operands come before the constants of the step.
        accumulate: the dtype in which gradients of constants are summed, if it is wider than theirs.
    """

    step: Step
    operand_avals: tuple[Any, ...]
    out_avals: tuple[Any, ...]
    offset: int = 0
    accumulate: Any = None

    @cached_property
    def unplanned(self) -> Step:
        """The step with the loops inside it reversed without a plan too."""
        step = self.step
        return Step(step.body, step.num_consts, step.num_carry, step.needs, wanted=step.wanted) if step.planned else step

    @property
    def has_custom_vjp(self) -> bool:
        """Whether a `jax.custom_vjp` function, which has no forward mode, is called by what is differentiated again."""
        joint = self.unplanned.joint
        wanted = [*joint.outputs, *(g for g in joint.gradients if g is not None)]
        needed = needed_operations(joint.operations, wanted, effects=False)
        return calls_custom_vjp(Graph(joint.inputs, joint.outputs, needed, joint.constants))

    def definition_again(self, *operands: Any) -> list[Any]:
        """The loop as a derivative of its derivative differentiates it: custom rules have been applied.

        The result of a custom function is then what its rule computes, an ordinary value, and the rule itself
        (which need not be the derivative of that) has no further say.
        """
        step = self.step
        applied = Step(step.applied, step.num_consts, step.num_carry, step.needs)
        return replace(self, step=applied).definition(*operands)

    @property
    def differentiated(self) -> list[bool]:
        """Which operands have a gradient, those included that come to depend on a differentiated one."""
        return [False] * self.offset + list(self.step.needs)

    def divide(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants of the step, initial carried values, stacked inputs."""
        first = self.offset + self.step.num_consts
        last = first + self.step.num_carry
        init = typed(operands[first:last], self.step.carry_avals)
        return list(operands[self.offset : first]), init, list(operands[last:])

    def cotangents(self, given: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Of what is active among carried values and stacked outputs; zeros for None."""
        c = self.step.num_carry
        carry = [instantiate(given[i], self.step.carry_avals[i]) for i in self.step.active_carry]
        return carry, [instantiate(given[c + i], self.out_avals[c + i]) for i in self.step.active_ys]

    def gradients(self, d_consts: Sequence[Any], d_init: Sequence[Any], d_xs: Sequence[Any]) -> list[Any]:
        """One entry an operand, None where nothing flows."""
        step = self.step
        consts = [cast(d, step.body.inputs[i].dtype) for i, d in zip(step.active_consts, d_consts, strict=True)]
        found = iter([*consts, *d_init, *d_xs])
        return [next(found) if d else None for d in self.differentiated]

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of step i."""
        raise NotImplementedError

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacks with the entries of step i replaced."""
        raise NotImplementedError

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        raise NotImplementedError
