# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How a stage is kept whole inside a compiled program, isolated from the rest of it.

A compiler that sees the same operations on the same inputs twice merges them, and the memory that recomputation should
have saved is lost; one that may move operations across stages holds what the schedule has freed; one that fuses cheap
work into later readers holds the operands of that work.  So each forward and backward of a stage is one call that the
compiler leaves whole, in the way that its target's platform asks for:

- `Isolation.CALLS`, where XLA drops optimization barriers: a call with the attribute `inlineable="false"`.  Its operands
  and results are buffers, its inside is scheduled alone, and two calls remain two: the repetition has the latest
  cotangent among its operands, which also orders it.
- `Isolation.BARRIERS`: between two optimization barriers, as in `jax.checkpoint`.

What a stage holds in a program is therefore what it holds alone, and the compiler can be asked stage by stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from ckptgrad.graph.trace import ISOLATED_NAME
from ckptgrad.graph.value_types import explicit_sharding, varying_axes
from ckptgrad.target.platform import Isolation

_TOKEN_ELEMENTS = 8


def isolated(function: Callable[[Any], list[Any]], isolation: Isolation) -> Callable[..., list[Any]]:
    """`function`, as a call that a compiler neither takes apart nor merges with another one.

    Args:
        function: of one pytree of arrays, to a list of arrays.
        isolation: the way of the platform that it is compiled for; `NONE` for a plan that leaves its stages open.

    Returns:
        A function of the same pytree, and of arrays to wait for.
    """

    def whole(operands: Any, earlier: Sequence[Any]) -> list[Any]:
        operands = _barrier(operands, earlier)
        # The attribute is for this call, not for calls inside it.
        with set_xla_metadata(inlineable=None):
            return _barrier(function(operands))

    whole.__name__ = whole.__qualname__ = ISOLATED_NAME
    jitted = jax.jit(whole)

    def with_barriers(operands: Any, earlier: Sequence[Any] = ()) -> list[Any]:
        return jitted(operands, list(earlier))

    def left_open(operands: Any, earlier: Sequence[Any] = ()) -> list[Any]:
        return function(operands)

    def not_inlined(operands: Any, earlier: Sequence[Any] = ()) -> list[Any]:
        with set_xla_metadata(inlineable="false"):
            return jitted(operands, list(earlier))

    return {Isolation.CALLS: not_inlined, Isolation.BARRIERS: with_barriers, Isolation.NONE: left_open}[isolation]


def _barrier(values: Any, earlier: Sequence[Any] = ()) -> Any:
    """One barrier for values that vary along the same axes of a mesh: of mixed ones it would make all vary along all."""
    leaves, treedef = jax.tree.flatten(values)
    axes = [varying_axes(jax.typeof(x)) for x in leaves]
    for kind in dict.fromkeys(axes):
        places = [i for i, a in enumerate(axes) if a == kind]
        others = [x for x in earlier if varying_axes(jax.typeof(x)) == kind]
        passed, _ = lax.optimization_barrier(([leaves[i] for i in places], others))
        for i, x in zip(places, passed, strict=True):
            leaves[i] = x
    return jax.tree.unflatten(treedef, leaves)


def add_isolated(total: Any, term: Any, isolation: Isolation) -> Any:
    """A sum that is done here and now: left to be fused at the end of a chain of sums, it would hold every term."""
    return _addition(isolation)([total, term])[0]


@cache
def _addition(isolation: Isolation) -> Callable[..., list[Any]]:
    return isolated(lambda terms: [jnp.add(*terms)], isolation)


def wait_for(first: Any, operand: Any) -> Any:
    """`operand`, made to depend on `first`: seen through a predicate on `first` that is true but opaque."""
    token = _token_of(first)
    if token is None or varying_axes(jax.typeof(token)) != varying_axes(jax.typeof(operand)):
        return operand
    true = (token <= jnp.inf) | (token != token)
    everywhere = lax.broadcast(true, operand.shape, out_sharding=explicit_sharding(jax.typeof(operand)))
    return lax.select(everywhere, operand, lax.full_like(operand, 0))


def _token_of(value: Any) -> Any:
    """A real scalar made from a few elements; None where there is none.

    A reduction, because a compiler computes that once and keeps the scalar.  A single element would be read again
    inside every fused reader, which would keep the whole value alive.
    """
    if not value.size or not jnp.issubdtype(value.dtype, jnp.inexact):
        return None
    few = [1] * max(value.ndim - 1, 0) + [min(n, _TOKEN_ELEMENTS) for n in value.shape[-1:]]
    # An axis that is sharded by type cannot be cut unevenly.
    sharded = explicit_sharding(jax.typeof(value)) is not None
    corner = value if sharded else lax.slice(value, (0,) * value.ndim, few)
    if jnp.issubdtype(corner.dtype, jnp.complexfloating):
        corner = lax.real(corner)
    return lax.reduce_max(corner, range(value.ndim))
