"""`Graph.grad`: the gradient as a graph of its own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.graph.graph import Graph
from tests.support.compare import assert_same

X = jnp.array([0.3, -1.2, 0.7])


def loss(x, w):
    return (jnp.tanh(x * w) ** 2).sum()


def small(x):
    return jnp.sin(x) * jnp.exp(-x * x) / (1 + x**2)


def test_gradients_of_inputs_and_of_a_result():
    graph = cg.trace(loss, X, X + 1)
    gradient = graph.grad()
    assert isinstance(gradient, Graph)
    assert_same(gradient(X, X + 1), list(jax.grad(loss, (0, 1))(X, X + 1)), scale=4)
    assert_same(graph.grad(1)(X, X + 1), [jax.grad(loss, 1)(X, X + 1)], scale=4)
    (product,) = next(op for op in graph.operations if op.name == "mul").outputs
    assert_same(graph.grad([product])(X, X + 1), [jax.grad(lambda p: (jnp.tanh(p) ** 2).sum())(X * (X + 1))], scale=4)


def test_it_is_printed_counted_and_compiled():
    gradient = cg.trace(loss, X, X + 1).grad()
    text = str(gradient)
    assert "tanh" in text
    assert "float32[3]" in text
    assert gradient.counts["tanh"] == 1
    assert sum(gradient.counts.values()) == len(gradient.operations)
    assert_same(jax.jit(gradient)(X, X + 1), gradient(X, X + 1), scale=4)
    assert gradient.get_operation(gradient.outputs[0]) in gradient.operations


@pytest.mark.slow
def test_fourth_derivatives():
    with jax.enable_x64():
        x = jnp.float64(0.4)
        graph, reference = cg.trace(small, x), small
        for _ in range(4):
            graph, reference = graph.grad(), jax.grad(reference)
            np.testing.assert_allclose(graph(x)[0], reference(x), rtol=1e-11)


def test_no_computation_twice_and_none_in_vain():
    graph = cg.trace(lambda x: (jnp.exp(x) * jnp.exp(x) + jnp.sin(x) * 0).sum(), X)
    gradient = graph.grad()
    assert gradient.counts["exp"] == 1
    assert gradient.counts["sin"] == 0
    reads = {id(a) for op in gradient.operations for a in op.inputs} | {id(a) for a in gradient.outputs}
    assert all(any(id(v) in reads for v in op.outputs) for op in gradient.operations)


def test_derivatives_of_a_chain_grow_no_faster_than_the_chain():
    def chain(n):
        def fun(x):
            for _ in range(n):
                x = jnp.sin(x)
            return x

        return cg.trace(fun, 0.5)

    sizes = [len(chain(n).grad().operations) for n in (10, 20, 40)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])


def test_zero_where_nothing_flows():
    graph = cg.trace(lambda x, i, y: (x * jnp.floor(y)).sum() + i, X, 3, X)
    assert_same(graph.grad()(X, 3, X), [jnp.floor(X), jnp.zeros(3)])


@pytest.mark.parametrize(
    ("fun", "wrt", "match"),
    [
        (lambda x: x, None, "scalar"),
        (lambda x: (x.sum(), x.sum()), None, "scalar"),
        (lambda x: jnp.argmax(x), None, "scalar"),
        (lambda x: x.sum(), [cg.Variable(jax.typeof(X))], "not a variable of the graph"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(fun, wrt, match):
    with pytest.raises(cg.GradientTypeError, match=match):
        cg.trace(fun, X).grad(wrt)
