"""`Loop`, the parts of a loop: what `scan` and `while` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax.core import ShapedArray
from jax.typing import DTypeLike

from ckptgrad.errors import EffectError
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Graph, Operation
from ckptgrad.loops.body import Body
from ckptgrad.once import once
from ckptgrad.rules.decorators import cast, instantiate
from ckptgrad.rules.subgraphs import calls_custom_vjp, typed


@dataclass(frozen=True, eq=False, kw_only=True)
class Loop:
    """A loop taken apart.

    Attributes:
        body: what a step does.
        operand_avals, out_avals: of the operands and results of the operation.
        length: the number of steps; None where it is known only when the loop has run.
        offset: the number of operands that come before the constants of the body.
        accumulate: the dtype in which gradients of constants are summed, if it is wider than theirs.
    """

    body: Body
    operand_avals: tuple[ShapedArray, ...]
    out_avals: tuple[ShapedArray, ...]
    length: int | None
    offset: int = 0
    accumulate: DTypeLike | None = None

    @once
    def unplanned(self) -> Body:
        """The body with the loops inside it reversed without a plan too, and entry buffers carried like other values."""
        body = self.body
        if not body.planned:
            return body
        return Body(body.graph, body.num_consts, body.num_carry, body.needs, used=body.used)

    @property
    def forward_operations(self) -> list[Operation]:
        """What a step does, with what its derivative asks of it."""
        return self.body.joint.forward_operations

    @property
    def has_custom_vjp(self) -> bool:
        """Whether a `jax.custom_vjp` function, which has no forward mode, is called by what is differentiated again."""
        joint = self.unplanned.joint
        results = [*joint.outputs, *(g for g in joint.gradients if g is not None)]
        needed = needed_operations(joint.operations, results, effects=False)
        return calls_custom_vjp(Graph(joint.inputs, joint.outputs, needed, joint.constants))

    def check_repeatable(self, name: str, line: object) -> None:
        """Refuse to run steps again that would have a side effect whose result is read.

        Args:
            name, line: of the loop, for the error.

        Raises:
            EffectError: they would.
        """
        if not self.body.joint.is_repeatable:
            raise EffectError(
                f"steps of the {name} at {line} run again for its gradient, and a step reads the result of a side effect, "
                f"or of lax.rng_uniform, which has a state; use jax.pure_callback or jax.random, or jax.lax.scan, of which "
                f"every step is stored then"
            )

    def definition_again(self, *operands: Any) -> list[Any]:
        """The loop as a derivative of its derivative differentiates it: custom rules have been applied.

        The result of a custom function is then what its rule computes, an ordinary value, and the rule itself
        (which need not be the derivative of that) has no further say.
        """
        body = self.body
        applied = Body(body.applied, body.num_consts, body.num_carry, body.needs)
        return replace(self, body=applied).definition(*operands)

    @property
    def differentiated(self) -> list[bool]:
        """Which operands have a gradient, those included that come to depend on a differentiated one."""
        return [False] * self.offset + list(self.body.needs)

    def divide(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants of the body, initial carried values, stacked inputs."""
        first = self.offset + self.body.num_consts
        last = first + self.body.num_carry
        init = typed(operands[first:last], self.body.carry_avals)
        return list(operands[self.offset : first]), init, list(operands[last:])

    def cotangents(self, cotangents: Sequence[Any | None]) -> tuple[list[Any], list[Any]]:
        """Those of active carried values and of active stacked outputs; zeros for None.

        Args:
            cotangents: of the results.
        """
        c = self.body.num_carry
        carry = [instantiate(cotangents[i], self.body.carry_avals[i]) for i in self.body.active_carry]
        return carry, [instantiate(cotangents[c + i], self.out_avals[c + i]) for i in self.body.active_ys]

    def gradients(self, d_consts: Sequence[Any], d_init: Sequence[Any], d_xs: Sequence[Any]) -> list[Any | None]:
        """One entry per operand, None where nothing flows."""
        body = self.body
        consts = [cast(d, body.graph.inputs[i].dtype) for i, d in zip(body.active_consts, d_consts, strict=True)]
        gradients = iter([*consts, *d_init, *d_xs])
        return [next(gradients) if d else None for d in self.differentiated]

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of step i."""
        raise NotImplementedError

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacks with the entries of step i replaced."""
        raise NotImplementedError

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        raise NotImplementedError
