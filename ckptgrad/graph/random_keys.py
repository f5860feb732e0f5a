# pyright: reportUnknownMemberType=false
"""Random keys (`jax.random.key`): arrays of a dtype of their own, made of unsigned integers."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import dtypes

from ckptgrad.graph.atoms import Array, Atom, Aval


def is_key(value: Array | Aval) -> bool:
    """Whether an array or abstract value holds typed keys."""
    return jnp.issubdtype(value.dtype, dtypes.prng_key)


def numbers_struct(keys: Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The struct of the integers that keys are made of; as in arrays, they come last."""
    return jax.eval_shape(jax.random.key_data, keys)


def from_numbers(numbers: Array, keys: Array | jax.ShapeDtypeStruct) -> Array:
    """Integers as keys of the generator of `keys`, an array or a struct."""
    return cast(Array, jax.random.wrap_key_data(numbers, impl=_generator(keys)))


def each_draws_alone(keys: Atom) -> bool:
    """Whether each of several keys draws the numbers that it draws alone.

    That is known of JAX's own generator only: XLA's draw for all of them from the first key.
    """
    return _generator_of(keys.aval.dtype) == "threefry2x32"


@cache
def _generator_of(dtype: Any) -> Any:
    """The generator of keys of a type."""
    return _generator(jax.ShapeDtypeStruct((), dtype))


def _generator(keys: Array | jax.ShapeDtypeStruct) -> Any:
    found: list[Any] = []

    def note(keys: Array) -> None:
        found.append(jax.random.key_impl(keys))

    jax.eval_shape(note, keys)
    return found[0]
