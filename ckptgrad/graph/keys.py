"""Keys of `jax.random.key`: arrays of a dtype of their own, made of unsigned integers."""

from __future__ import annotations

from typing import Any

import jax
from jax import dtypes


def is_key(value: Any) -> bool:
    """Whether an array or abstract value is one of typed keys."""
    return dtypes.issubdtype(value.dtype, dtypes.prng_key)


def numbers_struct(keys: Any) -> jax.ShapeDtypeStruct:
    """The struct of the integers that keys are made of; as in arrays, they come last."""
    return jax.eval_shape(jax.random.key_data, keys)


def from_numbers(numbers: Any, keys: Any) -> Any:
    """Integers as keys of the generator of `keys`, an array or a struct."""
    found = []
    jax.eval_shape(lambda k: found.append(jax.random.key_impl(k)), keys)
    return jax.random.wrap_key_data(numbers, impl=found[0])
