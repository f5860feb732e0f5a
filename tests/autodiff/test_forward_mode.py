"""Tangents are pushed along a graph by whichever form a rule has; what is not used is not computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.autodiff.forward_mode import push_tangents
from ckptgrad.errors import NoDerivativeError

X = jnp.array([[2.0, 0.5], [0.3, 1.0]])


@jax.custom_vjp
def reverse_only(x):
    return x**2


reverse_only.defvjp(lambda x: (x**2, x), lambda x, ct: (2 * x * ct,))

# By the form of their rules: partial derivatives, a linear operation, a pullback to be transposed, a tangent rule.
FORMS = {
    "elementwise": jnp.tanh,
    "linear": lambda x: jnp.flip(x.T, 0),
    "a product of itself": lambda x: x @ x,
    "a maximum": lambda x: x.max(0),
}


@pytest.mark.parametrize("fun", FORMS.values(), ids=FORMS)
def test_outputs_and_tangents_as_jax(fun):
    (output,), (tangent,) = push_tangents(cg.trace(fun, X), [X], [X + 1])
    expected, along = jax.jvp(fun, (X,), (X + 1,))
    np.testing.assert_allclose(output, expected, rtol=1e-6)
    np.testing.assert_allclose(tangent, along, rtol=2e-5)


def test_zero_tangents_are_none():
    graph = cg.trace(lambda x, y: (x * y, jnp.sin(y), jnp.floor(x), jnp.argmax(x)), X, X)
    _, (product, sine, floor, place) = push_tangents(graph, [X, X], [jnp.ones_like(X), None])
    np.testing.assert_allclose(product, X)
    assert (sine, floor, place) == (None, None, None)


def test_what_has_no_forward_mode_may_stand_where_its_tangent_is_not_used():
    graph = cg.trace(lambda x: (jnp.sin(x), reverse_only(x)), X)
    outputs, tangents = push_tangents(graph, [X], [jnp.ones_like(X)], used=[True, False])
    np.testing.assert_allclose(outputs[1], X**2)
    np.testing.assert_allclose(tangents[0], jnp.cos(X), rtol=1e-6)
    with pytest.raises(NoDerivativeError, match="custom_vjp"):
        push_tangents(graph, [X], [jnp.ones_like(X)])
