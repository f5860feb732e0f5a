"""Derivatives of small functions: zeros stay None, and only what is needed is computed."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ckptgrad.autodiff.of_function import pulled_back, pushed_forward

X, Y = jnp.array([1.0, 2.0]), jnp.array([3.0, 5.0])


def product_and_sine(x, y):
    return [x * y, jnp.sin(y)]


def test_cotangents_of_the_needed_inputs_alone():
    for_x, for_y = pulled_back(product_and_sine, [X, Y], [True, False], [jnp.ones(2), jnp.ones(2)])
    np.testing.assert_allclose(for_x, Y)
    assert for_y is None


def test_a_result_without_a_cotangent_adds_nothing():
    for_x, for_y = pulled_back(product_and_sine, [X, Y], [True, True], [None, jnp.ones(2)])
    assert for_x is None
    np.testing.assert_allclose(for_y, jnp.cos(Y), rtol=1e-6)


def test_tangents_are_zero_where_nothing_moves():
    product, sine = pushed_forward(product_and_sine, [X, Y], [jnp.ones(2), None])
    np.testing.assert_allclose(product, Y)
    assert sine is None
