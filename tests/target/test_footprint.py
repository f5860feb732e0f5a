"""The model of a fusing compiler: what gets memory, for how long, and what is overwritten."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive

from ckptgrad.graph.graph import KnownCost, Operation
from ckptgrad.target.footprint import live_inside, peak_inside, scratch, traffic, values_beside, values_inside
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import described
from tests.support.operations import graph_of, names_of

CPU = described("cpu")
X = jnp.ones((16, 8))
W = jnp.ones((8, 8))
N, ROW, M = X.nbytes, X.nbytes // 8, W.nbytes
BATCH = jnp.ones((2, 16, 8))


# Peaks in bytes of a function's own values; its arguments belong to others.
PEAKS = {
    "nothing": (lambda x: x, [X], 0),
    "one result": (lambda x: x * 2, [X], N),
    "fused": (lambda x: jnp.sin(x * 2 + 1) - x, [X], N),
    "a layer overwrites its product": (lambda x, w: jnp.tanh(x @ w), [X, W], N),
    "a residual layer too": (lambda x, w: x + jnp.tanh(x @ w), [X, W], N),
    "two products in turn": (lambda x, w: (x @ w) @ w, [X, W], 2 * N),
    "a third frees the first": (lambda x, w: ((x @ w) @ w) @ w, [X, W], 2 * N),
    "two results": (lambda x: (x + 1, x * 2), [X], 2 * N),
    "a scalar": (lambda x: (x * x).sum(), [X], 4),
    "a row": (lambda x: x - x.max(-1, keepdims=True), [X], N + ROW),
    "a product that is read again": (lambda x, w: (lambda h: (h @ w) * h)(x @ w), [X, W], 2 * N),
    "no overwriting by another type": (lambda x, w: jnp.tanh(x @ w).astype(jnp.bfloat16), [X, W], N + N // 2),
    "a view of a product of three axes stays": (lambda x, w: jnp.tanh(x @ w), [BATCH, W], 2 * BATCH.nbytes),
    "half precision is widened": (
        lambda x, w: (x @ w) @ w, [X.astype(jnp.bfloat16), W.astype(jnp.bfloat16)], N + 2 * N + M
    ),
    "a batched product is overwritten": (lambda x: jnp.exp(jnp.einsum("bik,bjk->bij", x, x)), [BATCH], 2 * 16 * 16 * 4),
}  # fmt: skip


@pytest.mark.parametrize(("fun", "args", "wanted"), PEAKS.values(), ids=PEAKS)
def test_peak_inside(fun, args, wanted):
    graph, operations, results = graph_of(fun, *args)
    made = [v for v in results if v not in graph.inputs]
    assert peak_inside(operations, graph.inputs, made, CPU) == wanted


@pytest.mark.parametrize("name", ["a layer overwrites its product", "two products in turn", "fused", "two results"])
def test_small_peaks_are_those_of_xla(name):
    fun, args, wanted = PEAKS[name]
    stats = jax.jit(fun).lower(*args).compile().memory_analysis()
    found = stats.temp_size_in_bytes + stats.output_size_in_bytes
    assert wanted <= found <= wanted + 64


@pytest.mark.parametrize(("fun", "args", "wanted"), PEAKS.values(), ids=PEAKS)
def test_the_values_at_the_peak_are_what_it_counts(fun, args, wanted):
    """But scratch, which belongs to no value."""
    graph, operations, results = graph_of(fun, *args)
    made = [v for v in results if v not in graph.inputs]
    values = values_inside(operations, graph.inputs, made, CPU)
    live = [*live_inside(operations, graph.inputs, made, CPU)]
    at_peak = scratch(operations[live.index(max(live))], CPU) if live else 0
    assert CPU.total_bytes(values) + at_peak == wanted


def test_the_values_at_the_peak_are_named():
    """While the second product runs: its result and its operand."""
    graph, operations, results = graph_of(lambda x, w: jnp.tanh(jnp.sin(x) @ w) * 2, X, W)
    assert names_of(operations, values_inside(operations, graph.inputs, results, CPU)) == ["sin", "dot_general"]
    a, w = graph.inputs
    # The first operation writes over what it alone reads.
    assert names_of(operations, values_inside(operations, [w], results, CPU, consumed=[a])) == ["sin", "dot_general"]
    assert values_inside((), [w], (), CPU, consumed=[a]) == [a]


def test_what_is_written_over_consumed_values_counts_as_these():
    graph, operations, results = graph_of(lambda a, w: jnp.tanh(jnp.sin(a) @ w) @ w, X, W)
    a, w = graph.inputs
    beside = values_beside(values_inside(operations, [w], results, CPU, consumed=[a]), [a])
    assert CPU.total_bytes(beside) == peak_inside(operations, [w], results, CPU, consumed=[a]) - CPU.bytes_of(a)
    assert values_beside([a], [a]) == []


def test_consumed_values_are_held_until_their_last_reader():
    graph, operations, results = graph_of(lambda a, b, w: (a * b) @ w, X, X, W)
    a, b, w = graph.inputs
    assert peak_inside(operations, [a, b, w], results, CPU) == 2 * N
    # Elementwise work overwrites what it is the last to read.
    assert peak_inside(operations, [w], results, CPU, consumed=[a, b]) == 2 * N
    assert peak_inside(operations, [b, w], results, CPU, consumed=[a]) == 2 * N
    graph, operations, results = graph_of(lambda a, w: (a @ w) @ w, X, W)
    a, w = graph.inputs
    assert peak_inside(operations, [w], results, CPU, consumed=[a]) == 2 * N


def test_values_given_are_never_counted():
    graph, operations, results = graph_of(lambda x, w: (lambda h: (h * 2) @ w)(x @ w), X, W)
    (product,) = operations[0].outputs
    whole = peak_inside(operations, graph.inputs, results, CPU)
    assert whole == 2 * N
    assert peak_inside(operations[1:], [*graph.inputs, product], results, CPU) == 2 * N
    assert peak_inside(operations[2:], [*graph.inputs, *operations[1].outputs], results, CPU) == N
    assert peak_inside((), graph.inputs, (), CPU) == 0


def test_reshapes_take_no_memory_of_their_own():
    """Of what others hold, and of what is read no more; a part of it, or another order, is an array."""
    graph, operations, results = graph_of(lambda x, w: x.reshape(16, 8) @ w, X.reshape(4, 32), W)
    assert peak_inside(operations, {*graph.inputs}, results, CPU) == N
    graph, operations, results = graph_of(lambda x, w: x.T @ w, X.T, W)
    assert peak_inside(operations, {*graph.inputs}, results, CPU) == 2 * N
    graph, operations, results = graph_of(lambda x, w: (x @ w).reshape(4, 32), X, W)
    assert peak_inside(operations, (), results, CPU) == N
    assert peak_inside(operations, {*graph.inputs, *results}, (), CPU) == 0
    _, operations, results = graph_of(lambda x, w: (lambda y: (y, y.reshape(4, 32)))(x @ w), X, W)
    assert peak_inside(operations, (), results, CPU) == 2 * N


def test_traffic_counts_what_is_written_and_read_once_a_value():
    _, operations, results = graph_of(lambda x, w: x + jnp.tanh(x @ w) * 2, X, W)
    assert traffic(operations, results, CPU) == (2 * N, (N + M) + 2 * N)
    _, operations, results = graph_of(lambda x: jnp.sin(x * 2 + 1) - x, X)
    assert traffic(operations, results, CPU) == (N, N)


def test_a_parameter_called_seconds_or_bytes_is_a_parameter():
    """What is known of planned loops does not travel among the parameters, which are the user's."""

    def graph_with(**params):
        primitive = Primitive("users_own")
        primitive.def_abstract_eval(lambda x, **_: x)
        return graph_of(lambda x: primitive.bind(x, **params), X)

    _, plain, results = graph_with()
    _, named, named_results = graph_with(seconds=7, bytes=10**9, loop=3, known_cost=5)
    roofline = Roofline(CPU)
    assert roofline.seconds(named, named_results) == roofline.seconds(plain, results) < 1
    assert peak_inside(named, (), named_results, CPU) == peak_inside(plain, (), results, CPU) == N
    cost = KnownCost(7.0, 100)
    op = Operation(plain[0].primitive, plain[0].inputs, plain[0].outputs, {}, known_cost=cost)
    for copy in (op, op.replace(op.inputs, op.outputs), op.with_params(seconds=1)):
        assert roofline.arithmetic(copy) == 7
        assert peak_inside([copy], (), copy.outputs, CPU) == N + 100


TPU = described("tpu")
V = jnp.ones((8, 16))


def layer_and_back(x, w, v, ct):
    """The gradients of v and of what the nonlinearity reads, from the operands of `tanh(x @ w) @ v`."""
    h = x @ w
    return jnp.tanh(h).T @ ct, (ct @ v.T) * jnp.cosh(h)


BESIDE_PRODUCTS = {
    "operands are made as they are read": (lambda x, w: jnp.tanh(x) @ w, [X, W], N),
    "what follows a product is written by it": (lambda x, w: jnp.tanh(x @ w).astype(jnp.bfloat16), [X, W], N // 2),
    "and read by two": (lambda x, w: (lambda h: (h @ w, h @ w))(jnp.tanh(x @ w)), [X, W], 3 * N),
    "a backward is written over what its layer made": (layer_and_back, [X, V, V.T, X], N + 16 * 16 * 4),
    "but not over an operand of the product": (lambda x, w: (lambda h: h + jnp.tanh(h @ w))(x @ w), [X, W], 2 * N),
}


@pytest.mark.parametrize(("fun", "args", "wanted"), BESIDE_PRODUCTS.values(), ids=BESIDE_PRODUCTS)
def test_products_take_what_surrounds_them_into_their_fusions(fun, args, wanted):
    graph, operations, results = graph_of(fun, *args)
    assert peak_inside(operations, graph.inputs, results, TPU) == wanted
