"""`scan`, reversed in its plain form: every step stores what its backward reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.autodiff.joint import Joint, partition
from ckptgrad.graph.graph import Graph, Variable
from ckptgrad.graph.registry import Application
from ckptgrad.graph.trace import from_jaxpr
from ckptgrad.rules.kinds import instantiate, pullback
from ckptgrad.rules.subgraphs import active_outputs, carried, joint_of, push_through, some, typed


def push_scan(op: Application, *tangents: Any):
    """Forward mode: one scan that carries values and tangents."""
    body = from_jaxpr(op.params["jaxpr"])
    n, c = op.params["num_consts"], op.params["num_carry"]
    needs = carried(body, op.needs, n, c)
    wanted = [*needs[n : n + c], *active_outputs(body, needs)[c:]]
    run = push_through(body, needs, wanted)
    carry_avals = [v.aval for v in body.inputs[n : n + c]]
    moving = [i for i in range(c) if needs[n + i]]
    consts, t_consts = op.inputs[:n], [t for t in tangents[:n] if t is not None]

    def step(state, x):
        (carry, t_carry), (xs, t_xs) = state, x
        outputs, found = run([*consts, *carry, *xs], [*t_consts, *t_carry, *t_xs])
        return (outputs[:c], found[: len(moving)]), (outputs[c:], found[len(moving) :])

    init = typed(op.inputs[n : n + c], carry_avals), [instantiate(tangents[n + i], carry_avals[i]) for i in moving]
    xs = list(op.inputs[n + c :]), [t for t in tangents[n + c :] if t is not None]
    options = {k: op.params[k] for k in ("length", "reverse", "unroll")}
    (final, t_final), (ys, t_ys) = lax.scan(step, init, xs, **options)
    return [*final, *ys], some(wanted, [*t_final, *t_ys])


@pullback(p.scan_p, push=push_scan)
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
        outputs = typed(outputs, out_avals)
        return outputs[:c], (outputs[c:], residuals, [carry[i] for i in split.carry_reads])

    final, (ys, residuals, carries) = lax.scan(
        step, typed(init, carry_avals), list(xs), length=length, reverse=reverse, unroll=unroll
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
        needs = carried(body, needs, n, c)
        active = active_outputs(body, needs)
        self.active_consts = [i for i in range(n) if needs[i]]
        self.active_carry = [i for i in range(c) if needs[n + i]]
        self.active_xs = [i for i in range(len(body.inputs) - n - c) if needs[n + c + i]]
        self.active_ys = [i for i, a in enumerate(active[c:]) if a]
        joined = joint_of(body, needs, [*self.active_carry, *(c + i for i in self.active_ys)])
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
