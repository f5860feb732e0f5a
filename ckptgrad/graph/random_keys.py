# pyright: reportUnknownMemberType=false
"""Random keys (`jax.random.key`): arrays of a dtype of their own, made of unsigned integers."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import dtypes

from ckptgrad.graph.atoms import Array, Aval


def is_key(value: Array | Aval) -> bool:
    """Whether an array or abstract value holds typed keys."""
    return jnp.issubdtype(value.dtype, dtypes.prng_key)


def numbers_struct(keys: Array | jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """The struct of the integers that keys are made of; as in arrays, they come last."""
    return jax.eval_shape(jax.random.key_data, keys)


def from_numbers(numbers: Array, keys: Array | jax.ShapeDtypeStruct) -> Array:
    """Integers as keys of the generator of `keys`, an array or a struct."""
    generators: list[Any] = []

    def note(keys: Array) -> None:
        generators.append(jax.random.key_impl(keys))

    jax.eval_shape(note, keys)
    return cast(Array, jax.random.wrap_key_data(numbers, impl=generators[0]))
