"""Masks as bits: an eighth of a byte for each element, and back in all bits."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptgrad as cg
from ckptgrad.stage.encodings.bits import decode, encode
from tests.support.arrays import normal
from tests.support.compare import assert_same
from tests.support.rows import quick_rows

SIZE = 64
WS = [0.1 * np.eye(SIZE, dtype=np.float32) + normal(k, SIZE, SIZE, scale=0.01) for k in range(4)]
X = normal(9, 256, SIZE)


def relu_loss(ws, x):
    for w in ws:
        x = x + jax.nn.relu(x @ w)
    return jnp.mean(x**2)


def dropout_loss(ws, x):
    for k, w in enumerate(ws):
        kept = jax.random.bernoulli(jax.random.key(k), 0.9, x.shape)
        x = x + jnp.where(kept, jnp.tanh(x @ w) / 0.9, 0)
    return jnp.mean(x**2)


@settings(max_examples=24, deadline=None)
@given(st.lists(st.sampled_from((0, 1, 3, 5, 8, 24)), max_size=3), st.integers(0, 2**31))
def test_any_mask_comes_back(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    (code,) = encode(jnp.asarray(mask))
    assert (code.dtype, code.size) == (jnp.uint8, -(-mask.size // 8))
    assert_same(decode((code,), jax.typeof(jnp.asarray(mask))), jnp.asarray(mask), bits=True)


@pytest.mark.parametrize(
    ("loss", "budget"), quick_rows(itertools.product([relu_loss, dropout_loss], [None, "min"]), (relu_loss, "min"))
)
def test_gradients_are_equal_bit_for_bit(loss, budget):
    plain, packed = (cg.value_and_grad(loss, budget=budget, encodings=e).compile(WS, X) for e in ((), "bits"))
    assert_same(packed(WS, X), plain(WS, X), bits=True)


def test_a_layer_of_relu_may_keep_a_bit_for_each_element():
    def kept(encodings):
        costs = cg.plan(relu_loss, WS, X, encodings=encodings).costs
        return [{option.residual_bytes for option in stage.options} for stage in costs.stages[1:-1]]

    for plain, packed in zip(kept(()), kept("bits"), strict=True):
        assert X.size in plain
        assert packed - plain == {X.size // 8}


@pytest.mark.parametrize("loss", [relu_loss, dropout_loss])
def test_no_plan_is_larger_with_bits_than_without(loss):
    plain, packed = (cg.plan(loss, WS, X, budget="min", costs="estimate", encodings=e).peak_bytes for e in ((), "bits"))
    assert packed <= plain


@pytest.mark.slow
def test_gradients_of_gradients_and_vmap_are_the_same():
    def twice(encodings):
        inner = cg.grad(lambda x: relu_loss(WS, jnp.tanh(x)), encodings=encodings)
        return jax.vmap(cg.grad(lambda x: jnp.sum(inner(x) ** 2), encodings=encodings))(X[None])

    assert_same(twice("bits"), twice(()), scale=10)
