"""How a recomputation is kept from being merged with the first computation.

A compiler that sees the same operations on the same inputs twice merges them, and the memory that
recomputation was to save is lost; on CPU XLA drops the optimization barrier that `jax.checkpoint`
relies on.  So the input of a recomputation is passed through a select on a predicate that is always
true but that no compiler can prove: s <= inf or s != s, with s one element of the incoming
cotangent.  This also orders the recomputation after that cotangent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import dtypes, lax


def token_of(cotangents: Sequence[Any]) -> Any:
    """One real element of the first cotangent that has one; None if there is none."""
    for ct in cotangents:
        if ct is not None and ct.size and dtypes.issubdtype(ct.dtype, jnp.inexact):
            s = lax.squeeze(lax.slice(ct, (0,) * ct.ndim, (1,) * ct.ndim), range(ct.ndim))
            return lax.real(s) if dtypes.issubdtype(s.dtype, jnp.complexfloating) else s
    return None


def sum_of_tokens(values: Sequence[Any]) -> Any:
    """A real scalar that depends on every one of some arrays; None if there are none."""
    tokens = [t for v in values if (t := token_of([v])) is not None]
    total = None
    for t in tokens:
        t = lax.convert_element_type(t, jnp.float32)
        total = t if total is None else total + t
    return total


def hold_apart(values: Sequence[Any], token: Any) -> list[Any]:
    """The same values, seen through a predicate on `token` that is true but opaque."""
    if token is None:
        return list(values)
    true = (token <= jnp.inf) | (token != token)
    return [_guard(true, v) for v in values]


def _guard(true: Any, value: Any) -> Any:
    if jnp.issubdtype(value.dtype, dtypes.prng_key):
        data = jax.random.key_data(value)
        return jax.random.wrap_key_data(_guard(true, data), impl=jax.random.key_impl(value))
    return lax.select(lax.broadcast(true, value.shape), value, lax.full_like(value, 0))


def guard_by(cotangents: Sequence[Any]) -> Callable[[list[Any]], list[Any]]:
    """`hold_apart` by the first usable of some cotangents."""
    token = token_of(cotangents)
    return lambda values: hold_apart(values, token)
