"""Rules of the user's own whose gradients are linear in what flows back, and those of which that is not known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ckptgrad.autodiff.linearity import is_linear, pulled_back_linearly
from ckptgrad.graph.trace import trace

X = np.linspace(-1.5, 1.5, 6).reshape(2, 3)


def with_backward(backward):
    """The identity, of a function that gives its argument and a cotangent to `backward`."""

    @jax.custom_vjp
    def identity(x):
        return x * 1.0

    identity.defvjp(lambda x: (identity(x), x), lambda x, g: (backward(x, g),))
    return identity


LINEAR = {
    "straight through": lambda x, g: g,
    "masked": lambda x, g: jnp.where(jnp.abs(x) < 1, g, 0.0),
    "scaled": lambda x, g: -2.0 * g / (1 + x**2),
    "summed": lambda x, g: jnp.broadcast_to(jnp.sum(x * g, 0, keepdims=True), g.shape) + g,
    "multiplied": lambda x, g: g @ (x.T @ x),
    "none": lambda x, g: jnp.zeros_like(g),
}
NOT_KNOWN = {
    "clipped": lambda x, g: jnp.clip(g, -0.1, 0.1),
    "normalised": lambda x, g: g / jnp.linalg.norm(g),
    "sign": lambda x, g: jnp.sign(g),
    "squared": lambda x, g: g * g,
    "shifted": lambda x, g: g + 1.0,
    "constant": lambda x, g: jnp.ones_like(g),
    "by its size": lambda x, g: jnp.where(jnp.abs(g) < 1, g, 0.0),
    "rounded": lambda x, g: g.astype(int).astype(g.dtype),
}


def operations(function):
    return trace(function, X).operations


@pytest.mark.parametrize("backward", LINEAR.values(), ids=LINEAR)
def test_linear_rules_are_known(backward):
    identity = with_backward(backward)
    steps = operations(lambda x: lax.scan(lambda c, _: (identity(c), None), x, None, length=2)[0])
    for found in (operations(identity), steps):
        assert all(map(pulled_back_linearly, found))


@pytest.mark.parametrize("backward", NOT_KNOWN.values(), ids=NOT_KNOWN)
def test_of_others_that_is_not_known(backward):
    identity = with_backward(backward)
    steps = operations(lambda x: lax.scan(lambda c, _: (identity(c), None), x, None, length=2)[0])
    for found in (operations(identity), steps):
        assert not all(map(pulled_back_linearly, found))


def test_ordinary_operations_and_rules_for_tangents_are_linear():
    assert all(map(pulled_back_linearly, operations(lambda x: jax.nn.relu(jnp.clip(x, -1, 1)) / jnp.linalg.norm(x))))


def test_a_graph_is_linear_in_all_of_its_inputs_together():
    graph = trace(lambda a, b: (a * b, a + b, 2.0 * a), X, X)
    assert not is_linear(graph, graph.inputs)
    assert not is_linear(graph, graph.inputs[:1])  # a + b is shifted by b
    both = trace(lambda a, b: (a + b, 2.0 * a), X, X)
    assert is_linear(both, both.inputs)
