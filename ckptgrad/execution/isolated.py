"""How a stage is kept apart from the rest of a compiled program.

A compiler that sees the same operations on the same inputs twice merges them, and the memory that recomputation was to
save is lost; one that may move operations across stages holds what the schedule has freed; one that fuses cheap work
into later readers holds the operands of that work.  So each forward and backward of a stage is one call that the
compiler leaves whole:

- On CPU, where XLA drops optimization barriers, a call with the attribute `inlineable="false"`.  Its operands and
  results are buffers, its inside is scheduled alone, and two calls are two calls: the repetition has the latest
  cotangent among its operands, which also orders it.
- Elsewhere between two optimization barriers, as in `jax.checkpoint`.

What a stage holds in a program is therefore what it holds alone, and can be asked of the compiler stage by stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import dtypes, lax
from jax.experimental.xla_metadata import set_xla_metadata

from ckptgrad.graph.trace import APART_NAME, explicit_sharding, varying_axes

_TOKEN_ELEMENTS = 8


def apart(function: Callable[[Any], list[Any]]) -> Callable[..., list[Any]]:
    """`function`, as a call that a compiler neither takes apart nor merges with another one.

    Args:
        function: of one pytree of arrays, to a list of arrays.

    Returns:
        A function of the same pytree, and of arrays to wait for.
    """

    def whole(operands: Any, after: Sequence[Any]) -> list[Any]:
        operands = _barrier(operands, after)
        # Nested calls are not meant.
        with set_xla_metadata(inlineable=None):
            return _barrier(function(operands))

    whole.__name__ = whole.__qualname__ = APART_NAME
    jitted = jax.jit(whole)

    def call(operands: Any, after: Sequence[Any] = ()) -> list[Any]:
        if not on_cpu():
            return jitted(operands, list(after))
        with set_xla_metadata(inlineable="false"):
            return jitted(operands, list(after))

    return call


def _barrier(values: Any, after: Sequence[Any] = ()) -> Any:
    """One barrier for values that vary along the same axes of a mesh: of mixed ones it would make all vary along all."""
    leaves, treedef = jax.tree.flatten(values)
    axes = [varying_axes(jax.typeof(x)) for x in leaves]
    for kind in dict.fromkeys(axes):
        places = [i for i, a in enumerate(axes) if a == kind]
        others = [x for x in after if varying_axes(jax.typeof(x)) == kind]
        found, _ = lax.optimization_barrier(([leaves[i] for i in places], others))
        for i, x in zip(places, found, strict=True):
            leaves[i] = x
    return jax.tree.unflatten(treedef, leaves)


def on_cpu() -> bool:
    """Whether programs are compiled for a CPU, unless their arguments say otherwise."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    platform = getattr(device, "platform", device) or jax.default_backend()
    return str(platform).startswith("cpu")


def add_apart(total: Any, term: Any) -> Any:
    """A sum that is done here and now: left to be fused at the end of a chain of sums, it would hold every term."""
    return _ADD([total, term])[0]


_ADD = apart(lambda terms: [jnp.add(*terms)])


def after(first: Any, operand: Any) -> Any:
    """`operand`, there once `first` is: seen through a predicate on `first` that is true but opaque."""
    token = _token_of(first)
    if token is None or varying_axes(jax.typeof(token)) != varying_axes(jax.typeof(operand)):
        return operand
    true = (token <= jnp.inf) | (token != token)
    everywhere = lax.broadcast(true, operand.shape, out_sharding=explicit_sharding(jax.typeof(operand)))
    return lax.select(everywhere, operand, lax.full_like(operand, 0))


def _token_of(value: Any) -> Any:
    """A real scalar made from a few elements; None without.

    A reduction, because a compiler computes that once and keeps the scalar.  A single element it would read again
    inside every fused reader, and so keep the whole value alive.
    """
    if not value.size or not dtypes.issubdtype(value.dtype, jnp.inexact):
        return None
    few = [1] * max(value.ndim - 1, 0) + [min(n, _TOKEN_ELEMENTS) for n in value.shape[-1:]]
    # An axis that is sharded by type cannot be cut unevenly.
    sharded = explicit_sharding(jax.typeof(value)) is not None
    corner = value if sharded else lax.slice(value, (0,) * value.ndim, few)
    if dtypes.issubdtype(corner.dtype, jnp.complexfloating):
        corner = lax.real(corner)
    return lax.reduce_max(corner, range(value.ndim))
