"""Weights, layers and types alone, of which the example models are made."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.example_models import gelu_stack, parts, transformer
from tests.support.compare import assert_same, quick


def test_without_arrays_a_model_may_be_of_any_size():
    _, (params, x) = parts.without_arrays(gelu_stack, jnp.bfloat16, layers=1, width=2**20, hidden=2**21, batch=1)
    assert params[0]["up"] == jax.ShapeDtypeStruct((2**20, 2**21), jnp.bfloat16)
    assert x == jax.ShapeDtypeStruct((1, 2**20), jnp.bfloat16)


def test_integers_keep_their_type_without_arrays():
    loss, args = parts.without_arrays(transformer, jnp.float16, blocks=1, width=4, heads=2, context=3, vocabulary=5)
    assert {x.dtype for x in jax.tree.leaves(args)} == {jnp.dtype(jnp.float16), jnp.dtype(jnp.int32)}
    assert jax.eval_shape(loss, *args).shape == ()


def test_weights_are_seeded_and_scaled_by_their_inputs():
    assert_same(parts.Weights()(3, 2), parts.Weights()(3, 2), bits=True)
    normal = parts.Weights()
    assert float(jnp.std(normal(100, 50))) == pytest.approx(0.1, rel=0.05)
    assert float(jnp.std(parts.Weights(0.5)(100, 50))) == pytest.approx(0.5, rel=0.05)


def test_norms_and_pools_are_what_they_are_called():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype(np.float32)
    gain, bias = np.full(16, 2.0, np.float32), np.ones(16, np.float32)

    @quick
    def run(x):
        return parts.group_norm(x, gain, bias, 4), parts.layer_norm(x, gain, bias), parts.max_pool(x)

    grouped, layered, pooled = run(x)
    groups = ((np.asarray(grouped) - 1) / 2).reshape(2, 4, 4, 4, 4)
    np.testing.assert_allclose(groups.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.var((1, 2, 4)), 1, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(layered).mean(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(pooled, x.reshape(2, 2, 2, 2, 2, 16).max((2, 4)))
    kernel = np.zeros((1, 1, 16, 16), np.float32)
    kernel[0, 0] = np.eye(16)
    np.testing.assert_array_equal(parts.conv(x, kernel, stride=2), x[:, ::2, ::2])
