"""How a recomputation is kept from being merged with the first computation.

A compiler that sees the same operations on the same inputs twice merges them, and the memory that
recomputation was to save is lost; on CPU XLA drops the optimization barrier that `jax.checkpoint`
relies on.  So the input of a recomputation is passed through a select on a predicate that is always
true but that no compiler can prove: s <= inf or s != s, with s taken from the incoming cotangent.
This also orders the recomputation after that cotangent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import dtypes, lax

from ckptgrad.graph.trace import explicit_sharding

_TOKEN_ELEMENTS = 8


def token_of(cotangents: Sequence[Any]) -> Any:
    """A real scalar made from a few elements of the first cotangent that has some; None without.

    A reduction, because a compiler computes that once and keeps the scalar.  A single element it
    would read again inside every fused reader, and so keep the whole cotangent alive.
    """
    for ct in cotangents:
        if ct is not None and ct.size and dtypes.issubdtype(ct.dtype, jnp.inexact):
            few = [1] * max(ct.ndim - 1, 0) + [min(n, _TOKEN_ELEMENTS) for n in ct.shape[-1:]]
            # An axis that is sharded by type cannot be cut unevenly.
            sharded = explicit_sharding(jax.typeof(ct)) is not None
            corner = ct if sharded else lax.slice(ct, (0,) * ct.ndim, few)
            if dtypes.issubdtype(ct.dtype, jnp.complexfloating):
                corner = lax.real(corner)
            return lax.reduce_max(corner, range(ct.ndim))
    return None


def hold_apart(values: Sequence[Any], token: Any) -> list[Any]:
    """The same values, seen through a predicate on `token` that is true but opaque."""
    if token is None:
        return list(values)
    true = (token <= jnp.inf) | (token != token)
    return [_guard(true, v, 0) for v in values]


def make_apart(values: Sequence[Any], token: Any) -> list[Any]:
    """`hold_apart` for values that depend on nothing, zeros most often: a choice between zeros would be folded."""
    if token is None:
        return list(values)
    true = (token <= jnp.inf) | (token != token)
    return [_guard(true, v, 1) for v in values]


def widen_apart(values: Sequence[Any], token: Any) -> list[Any]:
    """`hold_apart` on CPUs, where products widen operands of half precision; the values themselves elsewhere."""
    if token is None or not values:
        return list(values)
    return lax.platform_dependent(list(values), token, cpu=hold_apart, default=lambda values, _: values)


def settle(function: Callable[[list[Any]], list[Any]], operands: list[Any], token: Any) -> list[Any]:
    """The results of cheap work, computed here and put in memory once.

    Fusing compilers repeat cheap work inside every reader; along a chain of sums of cotangents one
    reader would then repeat the whole chain and keep every term alive.
    """
    if token is None:
        return function(operands)

    def by_branch(operands, token):
        # The work itself stands in the branch: an identity there would be a copy.
        results = jax.eval_shape(function, operands)
        true = (token <= jnp.inf) | (token != token)
        return lax.cond(
            true,
            function,
            lambda _: [lax.full(r.shape, 0, r.dtype, sharding=explicit_sharding(r)) for r in results],
            operands,
        )

    def by_barrier(operands, token):
        return lax.optimization_barrier(function(operands))

    return lax.platform_dependent(operands, token, cpu=by_branch, default=by_barrier)


def _guard(true: Any, value: Any, other: int) -> Any:
    if jnp.issubdtype(value.dtype, dtypes.prng_key):
        data = jax.random.key_data(value)
        return jax.random.wrap_key_data(_guard(true, data, other), impl=jax.random.key_impl(value))
    everywhere = lax.broadcast(true, value.shape, out_sharding=explicit_sharding(jax.typeof(value)))
    return lax.select(everywhere, value, lax.full_like(value, other))
