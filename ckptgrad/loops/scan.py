"""`scan` as a `Loop`: a loop of known length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax import lax
from jax.typing import DTypeLike

from ckptgrad.compat import scan_counts
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.loops.body import Body
from ckptgrad.loops.counters import last_of_steps
from ckptgrad.loops.entry_buffers import entry_buffers_of
from ckptgrad.loops.loop import Loop
from ckptgrad.loops.stacks import put_each, take_each
from ckptgrad.rules.subgraphs import typed


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan(Loop):
    """A loop of known length.

    Attributes:
        length: the number of steps.
        reverse: whether it goes from the last stacked input to the first.
        unroll: as `lax.scan` takes it.
    """

    length: int
    reverse: bool
    unroll: int

    def definition(self, *operands: Any) -> list[Any]:
        """The loop itself."""
        consts, init, xs = self.divide(operands)
        c = self.body.num_carry

        def run(carry: Any, x: Any) -> Any:
            outputs = typed(self.body.graph(*consts, *carry, *x), self.body.out_avals)
            return outputs[:c], outputs[c:]

        final, ys = lax.scan(run, init, xs, length=self.length, reverse=self.reverse, unroll=self.unroll)
        return [*final, *ys]

    def _place(self, i: Any) -> Any:
        return self.length - 1 - i if self.reverse else i

    def inputs_at(self, xs: Sequence[Any], i: Any) -> list[Any]:
        """The stacked inputs of step i."""
        return take_each(xs, self._place(i)) if xs else []

    def put_at(self, stacks: Sequence[Any], values: Sequence[Any], i: Any) -> list[Any]:
        """Stacks with the entries of step i replaced."""
        return put_each(stacks, values, self._place(i)) if stacks else []


def scan_of(
    op: Operation,
    needs: Sequence[bool],
    planned: bool,
    accumulate: DTypeLike | None = None,
    used: Sequence[bool] | None = None,
) -> Scan:
    """A scan taken apart; `needs` says which operands have a gradient, `used` which results may get a cotangent."""
    params = op.params
    graph, (n, c) = from_jaxpr(params["jaxpr"]), scan_counts(params)
    # Of one step or none there is nothing to choose, so nothing that only some ways take.
    known = planned and params["length"] > 1
    buffers = entry_buffers_of(graph, n, c, op.inputs[n : n + c], last_of_steps(params["length"])) if known else ()
    return Scan(
        body=Body(graph, n, c, needs, planned, buffers, used),
        operand_avals=tuple(a.aval for a in op.inputs),
        out_avals=tuple(v.aval for v in op.outputs),
        accumulate=accumulate,
        **{k: params[k] for k in ("length", "reverse", "unroll")},
    )
