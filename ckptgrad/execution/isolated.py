# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""How a stage is kept whole inside a compiled program, isolated from the rest of it.

A compiler that sees the same operations on the same inputs twice merges them, and the memory that recomputation should
have saved is lost; one that may move operations across stages holds what the schedule has freed; one that fuses cheap
work into later readers holds the operands of that work.  The target's platform says how that is prevented:

- `Isolation.CALLS`, where XLA drops optimization barriers: each forward and backward is a call with the attribute
  `inlineable="false"`.  Its operands and results are buffers, its inside is scheduled alone, and two calls remain two: the
  repetition has the latest cotangent among its operands, which also orders it.
- `Isolation.BARRIERS`: what a stage reads passes an optimization barrier (`fenced`), but only where work is repeated,
  since nothing is fused across a barrier.  First forwards have none.  A repeated forward passes one together with the
  latest cotangent, and later work reads the cotangent from behind it: a compiler drops an operand of a barrier whose
  result is unused, and the repetition would no longer wait for the cotangent.  The backward from residuals of such a
  forward stands in the same region, as in `jax.checkpoint`.  A backward from residuals of the first forward is fenced,
  for what it does again; totals to which it adds always are.
- `Isolation.WHOLE`: each forward and backward stands between two barriers.  What a stage holds is what it holds alone, at
  the price of what might have been fused across.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from ckptgrad.graph.trace import ISOLATED_NAME
from ckptgrad.graph.value_types import explicit_sharding, varying_axes
from ckptgrad.target.platform import Isolation

T = TypeVar("T")

_TOKEN_ELEMENTS = 8


def isolated(function: Callable[[Any], list[Any]], isolation: Isolation) -> Callable[..., list[Any]]:
    """`function`, as a call that a compiler neither takes apart nor merges with another one, if its operands are `fenced`.

    Args:
        function: of one pytree of arrays, to a list of arrays.
        isolation: the way of the platform that it is compiled for; `NONE` for a plan that leaves its stages open.

    Returns:
        A function of the same pytree, and of arrays to wait for.
    """

    def whole(operands: Any, earlier: Sequence[Any]) -> list[Any]:
        operands, _ = _barrier((operands, earlier))
        # The attribute is for this call, not for calls inside it.
        with set_xla_metadata(inlineable=None):
            return _barrier(function(operands))

    def plain(operands: Any) -> list[Any]:
        return function(operands)

    not_inlined, inlined = _named(whole), _named(plain)

    def call(operands: Any, earlier: Sequence[Any] = ()) -> list[Any]:
        if isolation is Isolation.NONE:
            return function(operands)
        if isolation is Isolation.BARRIERS:
            return inlined(operands)
        if isolation is Isolation.WHOLE:
            return not_inlined(operands, list(earlier))
        with set_xla_metadata(inlineable="false"):
            return not_inlined(operands, list(earlier))

    return call


def fenced(values: T, isolation: Isolation) -> T:
    """A pytree of arrays behind one barrier, where stages are not kept apart by calls.

    What is computed from them is not merged with what is computed from the values before the barrier, and comes after all
    of these are there.
    """
    return _fence(values) if isolation is Isolation.BARRIERS and jax.tree.leaves(values) else values


def _named(function: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted function by whose name tracing knows that its barriers are for the compiler alone."""
    function.__name__ = function.__qualname__ = ISOLATED_NAME
    return jax.jit(function)


def _barrier(values: T) -> T:
    """One barrier for values that vary along the same axes of a mesh: of mixed ones it would make all vary along all."""
    leaves, treedef = jax.tree.flatten(values)
    axes = [varying_axes(jax.typeof(x)) for x in leaves]
    for kind in dict.fromkeys(axes):
        places = [i for i, a in enumerate(axes) if a == kind]
        passed = lax.optimization_barrier([leaves[i] for i in places])
        for i, x in zip(places, passed, strict=True):
            leaves[i] = x
    return jax.tree.unflatten(treedef, leaves)


def _all_fenced(values: Any) -> Any:
    return _barrier(values)


_fence = _named(_all_fenced)


def add_isolated(total: Any, term: Any, isolation: Isolation) -> Any:
    """A sum that is done here and now: left to be fused at the end of a chain of sums, it would hold every term."""
    return _addition(isolation)(fenced([total, term], isolation))[0]


@cache
def _addition(isolation: Isolation) -> Callable[..., list[Any]]:
    return isolated(lambda terms: [jnp.add(*terms)], isolation)


def in_order(first: Any, operand: Any, isolation: Isolation) -> tuple[Any, Any]:
    """`first`, and an `operand` that is not there before it.

    A barrier costs nothing, where compilers keep it as long as both its results are read; elsewhere the operand is copied.
    """
    if isolation in (Isolation.BARRIERS, Isolation.WHOLE):
        first, operand = _barrier((first, operand))
        return first, operand
    return first, wait_for(first, operand)


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
