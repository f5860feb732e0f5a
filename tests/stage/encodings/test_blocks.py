"""Blocks with a scale each: what is not finite, zeros, denormal numbers, and what is left over of the last block."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.errors import InexactDerivativeError
from ckptgrad.stage.encodings.blocks import BLOCK, is_real, scaled, unscaled
from ckptgrad.stage.encodings.encoding import get_encoding

NAMES = ["int8", "float8"]


def there_and_back(name, x):
    encoding = get_encoding(name)
    return np.asarray(encoding.decode(encoding.encode(x), jax.typeof(x)))


def test_a_block_is_scaled_to_the_largest_number_and_filled_up():
    blocks, scale = scaled(jnp.arange(BLOCK + 3.0), 100)
    assert blocks.shape == (2, BLOCK)
    assert jnp.max(blocks, axis=1).tolist() == [100, 100]
    assert scale.tolist() == pytest.approx([1.27, 1.30])
    assert unscaled(blocks, scale, jax.typeof(jnp.zeros(BLOCK + 3))).tolist() == pytest.approx([*range(BLOCK + 3)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5,), (3, BLOCK), (7, 31)])
def test_shapes_and_types_come_back(name, dtype, shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)
    back = there_and_back(name, x)
    assert (back.shape, back.dtype) == (x.shape, x.dtype)
    exact = np.asarray(x, float)
    assert np.all(np.abs(back.astype(float) - exact) <= 0.07 * np.max(np.abs(exact), initial=0))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_survives_and_spoils_no_neighbour(name):
    x = jnp.asarray([np.nan, np.inf, -np.inf, 1.0, -2.0, *[0.5] * 200, np.inf])
    back = there_and_back(name, x)
    assert np.isnan(back[0])
    assert (back[1], back[2], back[-1]) == (np.inf, -np.inf, np.inf)
    np.testing.assert_allclose(back[3:-1], x[3:-1], atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_of_zeros_or_of_what_is_not_finite_alone(name):
    assert not there_and_back(name, jnp.zeros(300)).any()
    assert np.isposinf(there_and_back(name, jnp.full(BLOCK, jnp.inf))).all()
    assert np.isnan(there_and_back(name, jnp.full(BLOCK, jnp.nan))).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_and_the_smallest_numbers(name):
    most, tiny = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    np.testing.assert_allclose(there_and_back(name, jnp.asarray([most, -most, 0.0])), [most, -most, 0], rtol=1e-6)
    assert not there_and_back(name, jnp.asarray([tiny, -tiny / 4, 0.0])).any()
    np.testing.assert_allclose(there_and_back(name, jnp.asarray([1e4 * tiny, 0.0])), [1e4 * tiny, 0], rtol=1e-6)


def test_only_real_floating_point_numbers_that_are_larger_than_a_byte():
    size = 4096
    taken = [is_real(jax.ShapeDtypeStruct((size,), d)) for d in ("float32", "bfloat16", "complex64", "int32", "bool")]
    assert taken == [True, True, False, False, False]
    assert not is_real(jax.ShapeDtypeStruct((size,), jnp.float8_e4m3fn))
    assert not is_real(jax.ShapeDtypeStruct((8,), "float32"))


@pytest.mark.parametrize("name", NAMES)
def test_a_derivative_is_refused_rather_than_zero(name):
    with pytest.raises(InexactDerivativeError, match="leave int8 and float8 out"):
        jax.grad(lambda x: jnp.sum(get_encoding(name).encode(x)[1]))(jnp.ones(4))
