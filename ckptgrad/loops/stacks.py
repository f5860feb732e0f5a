"""Stacks of values in memory that loops write and read one entry at a time, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from ckptgrad.graph.graph import Variable
from ckptgrad.graph.trips import stating_trips
from ckptgrad.graph.value_types import explicit_sharding
from ckptgrad.rules.decorators import instantiate


def stack_like(value: Any, count: int) -> Any:
    """Room for `count` values like this one (keys too); what is in it is never read."""
    return jnp.broadcast_to(value, (count, *jnp.shape(value)))


def stacked(aval: Any, count: int) -> Any:
    """The type of `count` values of a type stacked; each device has its part of every value."""
    shape, sharding = (count, *aval.shape), explicit_sharding(aval)
    if sharding is None:
        return aval.update(shape=shape)
    return aval.update(shape=shape, sharding=sharding.update(spec=P(None, *sharding.spec)))


def stack_variable(v: Variable, count: int) -> Variable:
    """The variable of `count` values like this one stacked; each device has its part of every value."""
    sharding = v.sharding
    if sharding is not None:
        sharding = NamedSharding(sharding.mesh, P(None, *sharding.spec))
    return Variable(stacked(v.aval, count), sharding)


def zeros_stack(aval: Any, count: int) -> Any:
    """`count` zeros of a type, stacked."""
    return instantiate(None, stacked(aval, count))


def take(stack: Any, index: Any) -> Any:
    """One entry."""
    return lax.dynamic_index_in_dim(stack, index, 0, keepdims=False, allow_negative_indices=False)


def put(stack: Any, value: Any, index: Any) -> Any:
    """The stack with one entry replaced."""
    return lax.dynamic_update_index_in_dim(stack, value, index, 0, allow_negative_indices=False)


def put_each(stacks: Sequence[Any], values: Sequence[Any], index: Any) -> list[Any]:
    """Stacks with the same entry replaced in each."""
    return [put(s, v, index) for s, v in zip(stacks, values, strict=True)]


def take_each(stacks: Sequence[Any], index: Any) -> list[Any]:
    """The same entry of each stack."""
    return [take(s, index) for s in stacks]


def up_to(first: Any, end: Any, run: Callable[[Any, Any], Any], state: Any, trips: float | None = None) -> Any:
    """run(first, ...), ..., run(end - 1, ...); `trips` as for `stating_trips`."""
    with stating_trips(trips):
        return lax.fori_loop(first, end, run, state)


def down_from(end: Any, first: Any, run: Callable[[Any, Any], Any], state: Any, trips: float | None = None) -> Any:
    """run(end - 1, ...), ..., run(first, ...); `trips` as for `stating_trips`."""
    return up_to(first, end, lambda i, s: run(end - 1 - (i - first), s), state, trips)
