"""The example models: what they are made of, traced and not run where that is enough."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad import example_models as models
from tests.support.compare import assert_same, quick

# Sizes at which a trace is short, and the number of blocks to which `wrap` is applied.
SMALL = {
    "tanh": ({"layers": 3, "width": 4, "batch": 2}, 3),
    "gelu": ({"layers": 3, "width": 4, "hidden": 8, "batch": 2}, 3),
    "transformer": ({"blocks": 2, "width": 4, "heads": 2, "context": 3, "batch": 2, "vocabulary": 5}, 2),
    "bfloat16": ({"blocks": 2, "width": 4, "heads": 2, "context": 3, "batch": 2, "vocabulary": 5}, 2),
    "resnet": ({"counts": (1, 2), "width": 8, "size": 8, "batch": 2}, 3),
    "unet": ({"levels": 2, "width": 2, "size": 8, "batch": 2}, 4),
    "mixed": ({"widths": (3, 5, 2, 4), "batch": 2}, 3),
    "recurrent": ({"steps": 3, "width": 4, "batch": 2}, 3),
    "tied": ({"layers": 3, "width": 4, "batch": 6, "vocabulary": 5}, 3),
    "mixer": ({"layers": 2, "width": 4, "patches": 3, "batch": 2}, 2),
}


def test_every_model_of_the_sweep_is_here():
    assert {*SMALL} == {*models.SWEEP}


@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_a_scalar_loss_with_its_arguments(name):
    """And `wrap` sees each block."""
    make, calls = models.SWEEP[name][0], []

    def wrap(block):
        return lambda *args: calls.append(block) or block(*args)

    sizes, blocks = SMALL[name]
    loss, args = make(**sizes, wrap=wrap)
    out = jax.eval_shape(loss, *args)
    assert (out.shape, out.dtype) == ((), jnp.float32)
    assert len(calls) == blocks
    dtypes = {x.dtype for x in jax.tree.leaves(args[0])}
    assert dtypes == {jnp.dtype(jnp.bfloat16 if name == "bfloat16" else jnp.float32)}


@pytest.mark.parametrize("make", [models.gelu_stack, pytest.param(models.transformer, marks=pytest.mark.slow)])
def test_scanned_layers_compute_what_unrolled_ones_do(make):
    sizes = {"layers": 4} if make is models.gelu_stack else {"blocks": 4}
    sizes |= SMALL["gelu" if make is models.gelu_stack else "transformer"][0] | sizes
    (plain, args), (scanned, stacked) = make(**sizes), make(**sizes, scanned=True, segment=2)
    assert_same(*quick(lambda: (scanned(*stacked), plain(*args)))(), scale=8)
    names = {eqn.primitive.name for eqn in jax.make_jaxpr(scanned)(*stacked).eqns}
    assert "scan" in names


def test_zeros_take_the_place_of_weights_of_any_size():
    params, _ = jax.eval_shape(lambda: models.gelu_stack(1, 2**20, 2**20, 1, weights=models.Zeros)[1])
    assert params[0]["up"].shape == (2**20, 2**20)


def test_weights_are_seeded_and_scaled_by_their_inputs():
    assert_same(models.Weights()(3, 2), models.Weights()(3, 2), bits=True)
    normal = models.Weights()
    assert float(jnp.std(normal(100, 50))) == pytest.approx(0.1, rel=0.05)
    assert float(jnp.std(models.Weights(0.5)(100, 50))) == pytest.approx(0.5, rel=0.05)


def test_norms_and_pools_are_what_they_are_called():
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype(np.float32)
    gain, bias = np.full(16, 2.0, np.float32), np.ones(16, np.float32)

    @quick
    def run(x):
        return models.group_norm(x, gain, bias, 4), models.layer_norm(x, gain, bias), models.max_pool(x)

    grouped, layered, pooled = run(x)
    groups = ((np.asarray(grouped) - 1) / 2).reshape(2, 4, 4, 4, 4)
    np.testing.assert_allclose(groups.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.var((1, 2, 4)), 1, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(layered).mean(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(pooled, x.reshape(2, 2, 2, 2, 2, 16).max((2, 4)))
    kernel = np.zeros((1, 1, 16, 16), np.float32)
    kernel[0, 0] = np.eye(16)
    np.testing.assert_array_equal(models.conv(x, kernel, stride=2), x[:, ::2, ::2])
