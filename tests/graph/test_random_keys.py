"""Typed keys and the integers that they are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.graph.random_keys import each_draws_alone, from_numbers, is_key, numbers_struct

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


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_only_keys_that_each_draw_alone_are_said_to(impl):
    keys = jax.random.split(jax.random.key(5, impl=impl), 4)
    alone = jnp.stack([jax.random.bits(k, (8,)) for k in keys])
    together = jax.vmap(lambda k: jax.random.bits(k, (8,)))(keys)
    (keys_of,) = cg.trace(lambda k: jax.random.bits(k[0], (8,)), keys).inputs
    assert each_draws_alone(keys_of) == bool((alone == together).all())


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_microbatches_draw_what_the_whole_batch_draws(impl):
    """By a hardware generator a part of the keys draws from its first key, not from that of all."""
    keys = jax.random.split(jax.random.key(5, impl=impl), 8)
    x = jnp.linspace(-1, 1, 8 * 16).reshape(8, 16)

    def loss(w, x, keys):
        def one(x, k):
            return (jnp.where(jax.random.bernoulli(k, 0.5, x.shape), x * w, 0).sum()) ** 2

        return jax.vmap(one)(x, keys).mean()

    w = jnp.ones(16)
    value, gradient = cg.value_and_grad(loss, microbatches=2)(w, x, keys)
    expected = jax.jit(jax.value_and_grad(loss))(w, x, keys)
    assert jnp.allclose(value, expected[0], rtol=1e-5)
    assert jnp.allclose(gradient, expected[1], rtol=1e-4, atol=1e-5)
