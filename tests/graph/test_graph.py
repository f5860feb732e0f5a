"""The book's operations on a graph that is known by heart: f = sum(tanh(x @ w) * b)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.graph.graph import Constant


def loss(w, x, b):
    h = x @ w
    y = jnp.tanh(h)
    return jnp.sum(y * b)


W, X, B = jnp.full((3, 2), 0.3), jnp.arange(12.0).reshape(4, 3) / 7, jnp.array([[1.0, -2.0]] * 4)


@pytest.fixture
def graph():
    return cg.trace(loss, W, X, B)


def test_operations_in_topological_order(graph):
    assert [op.name for op in graph.operations] == ["dot_general", "tanh", "mul", "reduce_sum"]
    position = {v: i for i, op in enumerate(graph.operations) for v in op.outputs}
    for i, op in enumerate(graph.operations):
        assert all(position.get(a, -1) < i for a in op.inputs)


def test_get_operation_inputs_and_consumers(graph):
    w, x, b = graph.inputs
    product, tanh, times, total = graph.operations
    (h,), (y,), (z,) = product.outputs, tanh.outputs, times.outputs
    assert cg.get_operation(h, graph) is product
    assert cg.get_operation(w, graph) is None
    assert cg.get_inputs(h, graph) == [x, w]
    assert cg.get_inputs(z, graph) == [y, b]
    assert cg.get_inputs(b, graph) == []
    assert cg.get_consumers(h, graph) == [y]
    assert cg.get_consumers(b, graph) == [z]
    assert cg.get_consumers(z, graph) == list(total.outputs) == list(graph.outputs)
    assert cg.get_consumers(graph.outputs[0], graph) == []
    assert graph.edge_count == 6


def test_a_variable_read_twice_is_one_consumer_and_two_edges():
    graph = cg.trace(lambda x: x * x, 2.0)
    assert len(cg.get_consumers(graph.inputs[0], graph)) == 1
    assert cg.get_inputs(graph.outputs[0], graph) == [graph.inputs[0]] * 2
    assert graph.edge_count == 2


def test_variables_know_shape_dtype_and_bytes(graph):
    h = graph.operations[0].outputs[0]
    assert (h.shape, h.dtype, h.nbytes) == ((4, 2), np.float32, 32)


H = np.asarray(X @ W)
G = np.arange(8.0, dtype=np.float32).reshape(4, 2)


@pytest.mark.parametrize(
    ("position", "inputs", "which", "ct", "expected"),
    [
        pytest.param(0, (X, W), 0, G, G @ np.asarray(W).T, id="product-left"),
        pytest.param(0, (X, W), 1, G, np.asarray(X).T @ G, id="product-right"),
        pytest.param(1, (H,), 0, G, G * (1 - np.tanh(H) ** 2), id="tanh"),
        pytest.param(2, (H, B), 0, G, G * np.asarray(B), id="times-left"),
        pytest.param(2, (H, B), 1, G, G * H, id="times-right"),
        pytest.param(3, (H,), 0, np.float32(5), np.full((4, 2), 5.0), id="sum"),
    ],
)
def test_bprop_is_the_derivative_by_hand(graph, position, inputs, which, ct, expected):
    op = graph.operations[position]
    found = op.bprop(inputs, op.inputs[which], ct)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_bprop_sums_over_equal_inputs():
    graph = cg.trace(lambda x: x * x, 3.0)
    (op,) = graph.operations
    assert float(op.bprop([3.0, 3.0], graph.inputs[0], 10.0)) == 60.0


def test_bprop_through_no_derivative_is_none():
    graph = cg.trace(jnp.floor, 3.2)
    assert graph.operations[0].bprop([3.2], graph.inputs[0], 1.0) is None


def test_evaluation_equals_the_function(graph):
    (found,) = graph(W, X, B)
    assert found.item() == loss(W, X, B).item()
    (under_jit,) = jax.jit(lambda *a: graph(*a))(W, X, B)
    np.testing.assert_allclose(under_jit, found, rtol=1e-6)


def test_a_gradient_is_a_graph_again(graph):
    symbolic = cg.trace(cg.grad(loss), W, X, B)
    np.testing.assert_allclose(symbolic(W, X, B)[0], jax.grad(loss)(W, X, B), rtol=1e-6)
    assert {op.name for op in symbolic.operations} > {"dot_general", "tanh"}


def test_pytrees_are_flattened_in_jax_order():
    graph = cg.trace(lambda d, *, k: {"b": d["z"] + k, "a": d["a"] * 2.0}, {"z": 1.0, "a": 2.0}, k=3.0)
    assert graph(2.0, 1.0, 3.0) == [4.0, 4.0]


def test_outputs_may_be_literals_inputs_or_repeated():
    graph = cg.trace(lambda x: (1.5, x, x), 2.0)
    assert isinstance(graph.outputs[0], Constant)
    assert graph.outputs[1] is graph.outputs[2] is graph.inputs[0]
    assert graph(2.0) == [1.5, 2.0, 2.0]
