"""Reverse mode through `cond` and `scan`: their subgraphs are differentiated once and run in kind.

`scan` is reversed in its plain form: every step stores what its backward reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.joint import Joint, Partition, joint, partition
from ckptgrad.autodiff.reverse import active_variables
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.registry import Application
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.rules.kinds import instantiate, pullback


@pullback(p.cond_p)
def cond(op: Application):
    index, operands = op.inputs[0], op.inputs[1:]
    needs = op.needs[1:]
    graphs = [from_jaxpr(b) for b in op.params["branches"]]
    seeded = _active_outputs(graphs, needs)
    parts = [_differentiate(g, needs, seeded) for g in graphs]
    slots, places = _share_slots([[v.aval for v in part.residuals] for part in parts])

    def forward_branch(part: Partition, place: Sequence[int]):
        def run(*xs):
            outputs, residuals = part.run_forward(xs)
            filled = [None] * len(slots)
            for k, r in zip(place, residuals, strict=True):
                filled[k] = r
            kept = [instantiate(r, aval) for r, aval in zip(filled, slots, strict=True)]
            return _typed(outputs, op.out_avals), kept

        return run

    branches = [forward_branch(*pair) for pair in zip(parts, places, strict=True)]
    outputs, kept = lax.switch(index, branches, *operands)

    def pull(*cotangents):
        seeds = [instantiate(cotangents[i], op.out_avals[i]) for i in seeded]

        def backward_branch(graph: Graph, part: Partition, place: Sequence[int]):
            inputs = dict(zip(part.joint.inputs, range(len(operands)), strict=True))

            def run(kept, seeds, operands):
                gradients = iter(
                    part.run_backward([kept[k] for k in place], [operands[inputs[v]] for v in part.reads], seeds)
                )
                return [instantiate(next(gradients), a) for a, n in zip(op.in_avals[1:], needs, strict=True) if n]

            return run

        runs = [backward_branch(*triple) for triple in zip(graphs, parts, places, strict=True)]
        found = iter(lax.switch(index, runs, kept, seeds, list(operands)))
        return [None, *(next(found) if n else None for n in needs)]

    return outputs, pull


def _active_outputs(graphs: Sequence[Graph], needs: Sequence[bool]) -> list[int]:
    """The outputs that depend on a needed input in any of the graphs."""
    found: set[int] = set()
    for graph in graphs:
        active = active_variables(graph, [v for v, n in zip(graph.inputs, needs, strict=True) if n])
        found.update(i for i, a in enumerate(graph.outputs) if a in active)
    return sorted(found)


def _differentiate(graph: Graph, needs: Sequence[bool], seeded: Sequence[int]) -> Partition:
    """The partition of a subgraph that keeps all that its backward reads directly."""
    joined = _joint(graph, needs, seeded)
    return partition(joined, joined.frontier)


def _joint(graph: Graph, needs: Sequence[bool], seeded: Sequence[int]) -> Joint:
    wrt = [v for v, n in zip(graph.inputs, needs, strict=True) if n]
    return joint(graph, wrt, [graph.outputs[i] for i in seeded])


def _share_slots(avals: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[int]]]:
    """One list of slots into which each branch's residuals fit, equal types sharing a slot."""
    slots: list[Any] = []
    places = []
    for wanted in avals:
        free = list(range(len(slots)))
        place = []
        for aval in wanted:
            fitting = (k for k in free if slots[k].shape == aval.shape and slots[k].dtype == aval.dtype)
            k = next(fitting, None)
            if k is None:
                k = len(slots)
                slots.append(aval)
            else:
                free.remove(k)
            place.append(k)
        places.append(place)
    return slots, places


def _typed(values: Sequence[Any], avals: Sequence[Any]) -> list[Any]:
    """Values as arrays of the declared dtype (a literal output is a Python number)."""
    return [
        v if hasattr(v, "aval") or hasattr(v, "sharding") else jnp.asarray(v, a.dtype)
        for v, a in zip(values, avals, strict=True)
    ]


@pullback(p.scan_p)
def scan(op: Application):
    body = from_jaxpr(op.params["jaxpr"])
    split = _ScanSplit(body, op.params["num_consts"], op.params["num_carry"], op.needs)
    part, length, reverse = split.part, op.params["length"], op.params["reverse"]
    unroll = op.params["unroll"]
    n, c = split.num_consts, split.num_carry
    consts, init, xs = op.inputs[:n], op.inputs[n : n + c], op.inputs[n + c :]
    carry_avals = [v.aval for v in body.inputs[n : n + c]]
    out_avals = [getattr(a, "aval", None) for a in body.outputs]

    def step(carry, x):
        outputs, residuals = part.run_forward([*consts, *carry, *x])
        outputs = _typed(outputs, out_avals)
        return outputs[:c], (outputs[c:], residuals, [carry[i] for i in split.carry_reads])

    final, (ys, residuals, carries) = lax.scan(
        step, _typed(init, carry_avals), list(xs), length=length, reverse=reverse, unroll=unroll
    )

    def pull(*cotangents):
        ct_carry = [instantiate(cotangents[i], carry_avals[i]) for i in split.active_carry]
        ct_ys = [instantiate(cotangents[c + i], op.out_avals[c + i]) for i in split.active_ys]
        sums = [jnp.zeros(body.inputs[i].shape, body.inputs[i].dtype) for i in split.active_consts]

        def back(state, x):
            ct, sums = state
            kept, carry, x_reads, ct_y = x
            reads = split.arrange_reads(consts, carry, x_reads)
            found = part.run_backward(kept, reads, [*ct, *ct_y])
            d_consts, d_carry, d_xs = split.divide(found)
            sums = [s if d is None else jnp.add(s, d) for s, d in zip(sums, d_consts, strict=True)]
            return (d_carry, sums), d_xs

        given = (residuals, carries, [xs[i] for i in split.x_reads], ct_ys)
        (d_init, d_consts), d_xs = lax.scan(back, (ct_carry, sums), given, length=length, reverse=not reverse, unroll=unroll)
        found: list[Any] = [None] * len(op.inputs)
        for positions, offset, values in (
            (split.active_consts, 0, d_consts),
            (split.active_carry, n, d_init),
            (split.active_xs, n + c, d_xs),
        ):
            for i, value in zip(positions, values, strict=True):
                found[offset + i] = value
        return found

    return [*final, *ys], pull


class _ScanSplit:
    """The body of a scan divided into what is constant, carried and stacked, and differentiated."""

    def __init__(self, body: Graph, num_consts: int, num_carry: int, needs: Sequence[bool]):
        self.num_consts, self.num_carry = n, c = num_consts, num_carry
        needs = list(needs)
        while True:
            active = active_variables(body, [v for v, k in zip(body.inputs, needs, strict=True) if k])
            grown = [i for i in range(c) if body.outputs[i] in active and not needs[n + i]]
            if not grown:
                break
            for i in grown:
                needs[n + i] = True
        self.active_consts = [i for i in range(n) if needs[i]]
        self.active_carry = [i for i in range(c) if needs[n + i]]
        self.active_xs = [i for i in range(len(body.inputs) - n - c) if needs[n + c + i]]
        ys = body.outputs[c:]
        self.active_ys = [i for i, a in enumerate(ys) if a in active]
        joined = _joint(body, needs, [*self.active_carry, *(c + i for i in self.active_ys)])
        self.wrt = [v for v, k in zip(joined.inputs, needs, strict=True) if k]
        self.part = partition(joined, [v for v in joined.frontier if v not in _invariant(joined, n)])
        position = {v: i for i, v in enumerate(joined.inputs)}
        self.reads = [position[v] for v in self.part.reads]
        self.carry_reads = [i - n for i in self.reads if n <= i < n + c]
        self.x_reads = [i - n - c for i in self.reads if i >= n + c]

    def arrange_reads(self, consts, carry, xs) -> list[Any]:
        """The inputs that the backward step reads, in the partition's order."""
        carry, xs = iter(carry), iter(xs)
        n, c = self.num_consts, self.num_carry
        return [consts[i] if i < n else next(carry) if i < n + c else next(xs) for i in self.reads]

    def divide(self, gradients: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Gradients of constants (None where zero), carry and stacked inputs."""
        k, m = len(self.active_consts), len(self.active_consts) + len(self.active_carry)
        full = [instantiate(g, v.aval) for g, v in zip(gradients[k:], self.wrt[k:], strict=True)]
        return list(gradients[:k]), full[: m - k], full[m - k :]


def _invariant(joined: Joint, num_consts: int) -> set[Variable]:
    """Forward values that depend on constants of the loop alone: cheaper to redo than to stack."""
    invariant = {*joined.inputs[:num_consts], *joined.constants}
    for op in joined.forward_operations:
        if all(a in invariant for a in op.inputs if isinstance(a, Variable)):
            invariant.update(op.outputs)
    return invariant
