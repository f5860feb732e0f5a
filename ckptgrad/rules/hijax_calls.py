"""Calls of `jax.experimental.hijax`: what is called brings rules in hijax's own protocol.

With `jax_custom_vjp3` every call of a custom_vjp function is one.
"""

from __future__ import annotations

from typing import Any

from ckptgrad import compat
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import Application, WithPull, WithTangents
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.evaluate import apply
from ckptgrad.rules.custom import fitting, pulled_by_rule, pushed_by_rule, refuse_closed_over, refuse_tangents
from ckptgrad.rules.decorators import pullback


def push_hi_call(op: Application, *tangents: Any) -> WithTangents:
    """Forward mode: the rule for tangents."""
    call = compat.hi_call(op.params, op.in_avals)
    if not call.is_custom_vjp:
        return pushed_by_rule(op, call, *tangents)
    refuse_tangents(op)
    return hi_call(op)[0], [None] * len(op.op.outputs)


@pullback(compat.HI_CALL, push=push_hi_call, cost="heavy")
def hi_call(op: Application) -> WithPull:
    """By the reverse rule, if there is one that JAX does not derive from forward mode."""
    call = compat.hi_call(op.params, op.in_avals)
    if op.linear and call.transposes:
        inputs = [None if n else x for x, n in zip(op.inputs, op.needs, strict=True)]
        return apply(op.op, op.inputs), lambda *cotangents: call.transpose(inputs, cotangents, op.needs)
    if not call.pulls_back:
        if op.linear and not call.is_custom_jvp:
            # Not by its definition: what that is made of need not have the derivative that the rule gives.
            raise NoDerivativeError(
                op.op.name, f"{call.name} is linear here, but does not implement `transpose`", op.op.source
            )
        return pulled_by_rule(op, call)
    refuse_closed_over(op, call.closed_over)
    outputs, residuals, moving = call.forward(op.inputs, op.needs)

    def pull(*cotangents: Any) -> list[Any]:
        flows = [m and is_differentiable(a) for m, a in zip(moving, op.out_avals, strict=True)]
        seeds = [ct if f else None for ct, f in zip(cotangents, flows, strict=True)]
        gradients = call.backward(residuals, seeds, op.needs)
        return [fitting(op, ct, aval) for ct, aval in zip(gradients, op.in_avals, strict=True)]

    return outputs, pull
