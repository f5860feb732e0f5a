"""`while` as a `Loop`: a loop whose number of steps is known only when it has run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax
from jax.typing import DTypeLike

from ckptgrad.graph.graph import Graph, Operation
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.loops.body import Body
from ckptgrad.loops.counters import last_by_predicate
from ckptgrad.loops.entry_buffers import entry_buffers_of
from ckptgrad.loops.loop import Loop
from ckptgrad.rules.subgraphs import typed


@dataclass(frozen=True, eq=False, kw_only=True)
class While(Loop):
    """A loop of unknown length, without stacked inputs or outputs.

    Attributes:
        predicate: whether it goes on, from its constants, which come first among the operands, and the carried values.
    """

    predicate: Graph

    def goes_on(self, operands: Sequence[Any], carry: Sequence[Any]) -> Any:
        """Whether there is another step."""
        return self.predicate(*operands[: self.offset], *carry)[0]

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        consts, init, _ = self.divide(operands)

        def run(carry: Any) -> Any:
            return typed(self.body.graph(*consts, *carry), self.body.carry_avals)

        return lax.while_loop(lambda carry: self.goes_on(operands, carry), run, init)

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of a step: none."""
        return []

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacked values with those of a step replaced: none."""
        return []


def while_of(
    op: Operation,
    needs: Sequence[bool],
    planned: bool,
    accumulate: DTypeLike | None = None,
    used: Sequence[bool] | None = None,
) -> While:
    """A while taken apart; `needs` says which operands have a gradient, `used` which results may get a cotangent."""
    k, n = op.params["cond_nconsts"], op.params["body_nconsts"]
    graph, predicate = from_jaxpr(op.params["body_jaxpr"]), from_jaxpr(op.params["cond_jaxpr"])
    c = len(graph.inputs) - n
    buffers = entry_buffers_of(graph, n, c, op.inputs[k + n :], last_by_predicate(predicate, k)) if planned else ()
    return While(
        body=Body(graph, n, c, needs[k:], planned, buffers, used),
        operand_avals=tuple(a.aval for a in op.inputs),
        out_avals=tuple(v.aval for v in op.outputs),
        length=None,
        offset=k,
        accumulate=accumulate,
        predicate=predicate,
    )
