"""Graphs in double precision, and derivatives by differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.validation.double_precision import as_double, as_numpy_double, difference_error, in_double_precision, perturbed

X = jnp.array([0.3, -1.7, 2.0])
RNG = np.random.default_rng


def test_floats_and_complex_numbers_become_double_and_others_stay():
    with jax.enable_x64():
        assert as_double(X).dtype == jnp.float64
        assert as_double(X.astype(jnp.complex64)).dtype == jnp.complex128
        assert as_double(jnp.arange(3, dtype=jnp.int32)).dtype == jnp.int32
        assert as_double(3) == 3
    assert as_numpy_double(X.astype(jnp.bfloat16)).dtype == np.float64
    assert as_numpy_double(1j * X).dtype == np.complex128


def test_a_graph_is_run_in_double_precision_with_custom_rules_replaced():
    """Single precision overflows here; the constant is part of the graph, the type named by a conversion too."""
    large = jnp.full(3, 1e30)

    @jax.custom_jvp
    def squared(x):
        return (x * large).astype(jnp.float32) * x

    squared.defjvps(lambda t, ans, x: t)
    graph = cg.trace(lambda x: squared(x) * 1e20, X)
    assert np.isinf(np.asarray(graph(X)[0])).any()
    with jax.enable_x64():
        (found,) = in_double_precision(graph)(as_double(X))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, np.asarray(X, float) ** 2 * np.float64(np.float32(1e30)) * 1e20, rtol=1e-6)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: lax.fori_loop(0, 3, lambda i, c: c * x, x),
        lambda x: lax.bitcast_convert_type(x, jnp.int32),
        lambda x: jax.pure_callback(np.sin, x, x),
        lambda x: lax.reduce_precision(x, 8, 7),
    ],
)
def test_what_depends_on_the_number_of_bits_has_no_double(fun):
    with jax.enable_x64():
        assert in_double_precision(cg.trace(fun, X)) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_values_nearby(dtype):
    x = jnp.array([0.0, 1.0, -100.0], dtype)
    near = perturbed(x, RNG(0))
    assert near.dtype == x.dtype
    difference = np.abs(as_numpy_double(near) - as_numpy_double(x))
    assert (difference > 0).any()
    assert (difference <= 0.05 * np.array([100, 1, 100])).all()
    assert perturbed(jnp.zeros(0), RNG(0)).shape == (0,)


@pytest.mark.parametrize("factor", [1.0, 1.01, -1.0])
def test_differences_tell_a_right_cotangent_from_a_wrong_one(factor):
    graph, ct = cg.trace(lambda x, y: (jnp.sin(x) * y, jnp.exp(x)), X, 2 * X), jnp.array([1.0, 2.0, -1.0])
    with jax.enable_x64():
        x = as_double(X)
        right = ct * jnp.cos(x) * 2 * x
        error, allowed = difference_error(graph, [x, 2 * x], 0, [ct, None], factor * right, RNG(0))
    assert (error <= allowed) == (factor == 1.0)
    assert allowed < 1e-4


def test_differences_of_what_is_not_finite_say_nothing():
    graph = cg.trace(jnp.log, X)
    assert difference_error(graph, [X], 0, [jnp.ones(3)], jnp.ones(3), RNG(0)) is None


def test_where_nothing_flows_nothing_is_wrong():
    graph = cg.trace(lambda x: 0 * x, X)
    assert difference_error(graph, [X], 0, [jnp.ones(3)], jnp.zeros(3), RNG(0)) == (0.0, 1.0)
