"""The body of a loop: what a step reads and makes, and its derivative.

The body of a `scan` or `while` is a graph from (constants, carried values, stacked inputs) to (carried values, stacked
outputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from ckptgrad.autodiff.reach import moving_carry
from ckptgrad.graph.evaluate import needed_operations
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.loops.entry_buffers import EntryBuffer, reading_back
from ckptgrad.once import once
from ckptgrad.rules.decorators import instantiate
from ckptgrad.rules.subgraphs import active_outputs, calls_custom_rule, carried, joint_of
from ckptgrad.stage.joint import Joint


class Body:
    """The body of a loop divided into what is constant, carried and stacked, and differentiated.

    Attributes:
        graph: from constants, carried values and stacked inputs to carried values and stacked outputs.
        needs: of its inputs, which are differentiated, what is carried included.
        active_consts, active_carry, active_xs, active_ys: positions of what has a gradient.
        indexed: which of the active constants are only read entry by entry: gradients are added in place to their sums.
        planned: whether a plan says how the loops inside are reversed.
        entry_buffers: the carried buffers that are written entry by entry.
        used: for each result of the loop, whether it may get a cotangent; None: all may.  A stacked output that may
            not, and a carried value on which no other result depends, are left out, not given zeros: these are nan where
            they meet an infinite derivative.
        moving: positions of carried values that a step changes and a checkpoint holds.
    """

    def __init__(
        self,
        graph: Graph,
        num_consts: int,
        num_carry: int,
        needs: Sequence[bool],
        planned: bool = False,
        entry_buffers: Sequence[EntryBuffer] = (),
        used: Sequence[bool] | None = None,
    ) -> None:
        self.graph, self.planned, self.entry_buffers, self.used = graph, planned, tuple(entry_buffers), used
        self.num_consts, self.num_carry = n, c = num_consts, num_carry
        self.needs = carried(graph, needs, n, c)
        if used is not None:
            waited = moving_carry(graph, used, n, c)
            self.needs[n : n + c] = [a and w for a, w in zip(self.needs[n : n + c], waited[:c], strict=True)]
        active = active_outputs(graph, self.needs)
        self.active_consts = [i for i in range(n) if self.needs[i]]
        self.active_carry = [i for i in range(c) if self.needs[n + i]]
        self.active_xs = [i for i in range(len(graph.inputs) - n - c) if self.needs[n + c + i]]
        stacked = [True] * (len(active) - c) if used is None else used[c:]
        self.active_ys = [i for i, (a, w) in enumerate(zip(active[c:], stacked, strict=True)) if a and w]
        self.indexed = [k for k, i in enumerate(self.active_consts) if _is_indexed(graph, graph.inputs[i])]
        buffers = {b.position for b in self.entry_buffers}
        self.moving = [i for i in range(c) if graph.outputs[i] is not graph.inputs[n + i] and i not in buffers]
        self.carry_avals = [v.aval for v in graph.inputs[n : n + c]]
        self.out_avals = [a.aval for a in graph.outputs]

    @once
    def joint(self) -> Joint:
        """The joint graph; loops inside are left to a plan if this one is.

        Entry buffers are read back: their values are pairs of the buffer at the end and at the start.
        """
        seeded = [*self.active_carry, *(self.num_carry + i for i in self.active_ys)]
        totals = [self.graph.inputs[self.active_consts[k]] for k in self.indexed]
        joined = joint_of(self.graph, self.needs, seeded, self.planned, totals)
        carried_in = joined.inputs[self.num_consts : self.num_consts + self.num_carry]
        buffers = {carried_in[b.position]: (b, carried_in[b.counter]) for b in self.entry_buffers}
        return replace(joined, operations=tuple(reading_back(joined.operations, buffers)))

    @once
    def applied(self) -> Graph:
        """The body with custom rules applied: under differentiation a custom function's value is what its rule computes,
        which need not be what the function does.
        """
        if not calls_custom_rule(self.graph):
            return self.graph
        plain = joint_of(self.graph, self.needs, [*self.active_carry, *(self.num_carry + i for i in self.active_ys)])
        forward = needed_operations(plain.forward_operations, plain.outputs)
        return Graph(plain.inputs, plain.outputs, forward, plain.constants)

    @property
    def carry_inputs(self) -> tuple[Variable, ...]:
        """The variables of the values carried into a step."""
        return self.joint.inputs[self.num_consts : self.num_consts + self.num_carry]

    @property
    def carry_variables(self) -> list[Variable]:
        """New variables for the carried values."""
        return [Variable(a, v.sharding) for a, v in zip(self.carry_avals, self.carry_inputs, strict=True)]

    @once
    def invariant(self) -> set[Variable]:
        """Forward values that depend on constants of the loop alone: cheaper to redo than to store at each step."""
        values = {*self.joint.inputs[: self.num_consts], *self.joint.constants}
        for op in self.joint.forward_operations:
            if not op.effects and all(a in values for a in op.inputs if isinstance(a, Variable)):
                values.update(op.outputs)
        return values

    def sums(self, wider: DTypeLike | None = None) -> list[Any]:
        """Zeros for the sums of gradients of constants, in `wider` where that is a wider dtype."""
        zeros = [instantiate(None, self.graph.inputs[i].aval) for i in self.active_consts]
        if wider is None:
            return zeros
        return [z if k in self.indexed else z.astype(jnp.promote_types(z.dtype, wider)) for k, z in enumerate(zeros)]

    def cotangents(self, carry: Sequence[Any], stacked: Sequence[Any], sums: Sequence[Any]) -> list[Any]:
        """What a step's backward starts from: cotangents of active carried values and stacked outputs, and running sums."""
        return [*carry, *stacked, *(sums[k] for k in self.indexed)]

    def added(self, sums: Sequence[Any], gradients: Sequence[Any | None]) -> list[Any]:
        """Sums of gradients of constants with those of a step added, where the step has not added them itself."""
        pairs = enumerate(zip(sums, gradients, strict=True))
        return [s if d is None else d if k in self.indexed else jnp.add(s, d) for k, (s, d) in pairs]


def _is_indexed(graph: Graph, constant: Variable) -> bool:
    """Whether a constant is only read entry by entry."""
    readers = graph.consuming_operations(constant)
    reads = all(op.name in ("dynamic_slice", "gather") and op.inputs[0] is constant for op in readers)
    return bool(readers) and reads and not any(a is constant for a in graph.outputs)
