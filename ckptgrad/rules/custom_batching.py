"""`jax.custom_batching.custom_vmap`: derivatives are batched as the user's rule says, like values.

The derivative of such a function is again a function with a rule of its own.  Under `vmap` it is the derivative of what the
user's rule makes of the function, whole batches at a time; where an argument is shared by the batch and its tangents or
cotangents are not, one example at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.extend.core import jaxpr_as_fun

from ckptgrad.autodiff.of_function import pulled_back, pushed_forward
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import Application, Rule, register
from ckptgrad.graph.evaluate import apply
from ckptgrad.rules.decorators import instantiate
from ckptgrad.rules.subgraphs import some

# From the inputs to the outputs of the operation.
Function: TypeAlias = Callable[..., Sequence[Any]]


def _bprop(op: Application, *cotangents: Any) -> list[Any]:
    call = jaxpr_as_fun(op.params["call"])
    present = [ct is not None for ct in cotangents]

    def pull(function: Function, inputs: Sequence[Any], needs: Sequence[bool], seeds: Sequence[Any]) -> list[Any]:
        gradients = pulled_back(function, inputs, needs, some(present, seeds))
        return [instantiate(g, jax.typeof(x)) for g, x, n in zip(gradients, inputs, needs, strict=True) if n]

    @custom_vmap
    def pulled(inputs: list[Any], seeds: list[Any]) -> list[Any]:
        return pull(call, inputs, op.needs, seeds)

    @pulled.def_vmap
    def _(size: int, batched: Any, inputs: list[Any], seeds: list[Any]) -> tuple[list[Any], list[bool]]:
        mine, theirs = batched
        if not any(mine):
            gradients = jax.vmap(lambda g: pull(call, inputs, op.needs, g), (_axes(theirs),))(seeds)
            return gradients, [True] * len(gradients)
        whole = _batched(op, mine)
        seeds = [g if b else jnp.broadcast_to(g, (size, *g.shape)) for g, b in zip(seeds, theirs, strict=True)]
        own = [n and b for n, b in zip(op.needs, mine, strict=True)]
        shared = [n and not b for n, b in zip(op.needs, mine, strict=True)]
        gradients = iter(pull(whole, inputs, own, seeds)) if any(own) else iter(())
        alone = iter(())
        if any(shared):
            alone = iter(_each(size, lambda i: pull(whole, inputs, shared, [_only(g, i) for g in seeds])))
        results = [next(gradients if o else alone) for o, n in zip(own, op.needs, strict=True) if n]
        return results, [True] * len(results)

    return some(op.needs, pulled(op.inputs, [ct for ct in cotangents if ct is not None]))


def _tangent(op: Application, *tangents: Any) -> list[Any]:
    call = jaxpr_as_fun(op.params["call"])
    needs = [t is not None for t in tangents]
    flows = [is_differentiable(a) for a in op.out_avals]

    def push(function: Function, inputs: Sequence[Any], moving: Sequence[bool], directions: Sequence[Any]) -> list[Any]:
        moved = pushed_forward(function, inputs, some(moving, directions))
        results = jax.eval_shape(function, *inputs)
        return [instantiate(t, r) for t, r, f in zip(moved, results, flows, strict=True) if f]

    @custom_vmap
    def pushed(inputs: list[Any], directions: list[Any]) -> list[Any]:
        return push(call, inputs, needs, directions)

    @pushed.def_vmap
    def _(size: int, batched: Any, inputs: list[Any], directions: list[Any]) -> tuple[list[Any], list[bool]]:
        mine, theirs = batched
        if not any(mine):
            moved = jax.vmap(lambda g: push(call, inputs, needs, g), (_axes(theirs),))(directions)
            return moved, [True] * len(moved)
        whole = _batched(op, mine)
        followed = [(i, b) for i, (b, n) in enumerate(zip(mine, needs, strict=True)) if n]
        together, alone = {}, {}
        for (i, in_batch), t, spread in zip(followed, directions, theirs, strict=True):
            if spread and not in_batch:
                alone[i] = t
            else:
                together[i] = jnp.broadcast_to(t, (size, *t.shape)) if in_batch and not spread else t
        parts = []
        if together:
            parts.append(push(whole, inputs, [i in together for i in range(len(inputs))], list(together.values())))
        if alone:
            moving = [i in alone for i in range(len(inputs))]

            def one(i: Any) -> list[Any]:
                return [t[i] for t in push(whole, inputs, moving, [t[i] for t in alone.values()])]

            parts.append(_each(size, one))
        results = [sum(terms[1:], terms[0]) for terms in zip(*parts, strict=True)]
        return results, [True] * len(results)

    return some(flows, pushed(op.inputs, [t for t in tangents if t is not None]))


def _batched(op: Application, batched: Sequence[bool]) -> Function:
    """The operation on a whole batch, as the user's rule says."""
    return jax.vmap(lambda *inputs: apply(op.op, inputs), tuple(_axes(batched)))


def _axes(batched: Sequence[bool]) -> list[int | None]:
    return [0 if b else None for b in batched]


def _each(size: int, function: Callable[[Any], list[Any]]) -> list[Any]:
    return jax.vmap(function)(jnp.arange(size))


def _only(batch: Any, i: Any) -> Any:
    """A batch of which one example is left, the others zero."""
    chosen = (jnp.arange(batch.shape[0]) == i).reshape(-1, *[1] * (batch.ndim - 1))
    return jnp.where(chosen, batch, jnp.zeros((), batch.dtype))


register(Rule("custom_vmap_call", "bprop", bprop=_bprop, tangent=_tangent, cost="heavy"))
