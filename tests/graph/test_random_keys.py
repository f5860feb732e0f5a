"""Typed keys and the integers that they are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.graph.random_keys import from_numbers, is_key, numbers_struct

each_generator = pytest.mark.parametrize(("impl", "words"), [("threefry2x32", 2), ("rbg", 4)])


@each_generator
def test_keys_become_integers_and_keys_again(impl, words):
    keys = jax.random.split(jax.random.key(5, impl=impl), 3)
    numbers = jax.random.key_data(keys)
    assert is_key(keys)
    assert is_key(jax.typeof(keys))
    assert not is_key(numbers)
    struct = numbers_struct(keys)
    assert (struct.shape, struct.dtype) == ((3, words), jnp.uint32) == (numbers.shape, numbers.dtype)
    again = from_numbers(numbers, keys)
    assert again.dtype == keys.dtype
    assert (jax.random.uniform(again[1], (4,)) == jax.random.uniform(keys[1], (4,))).all()


@each_generator
def test_a_struct_says_of_which_generator(impl, words):
    struct = jax.eval_shape(lambda: jax.random.key(0, impl=impl))
    assert from_numbers(jnp.ones(words, jnp.uint32), struct).dtype == struct.dtype
