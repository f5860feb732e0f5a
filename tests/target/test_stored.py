"""The model of a fusing compiler: which values get memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.graph.graph import KnownCost, Operation
from ckptgrad.target.stored import materialised, stored_beside_products
from ckptgrad.target.target import described
from tests.support.operations import graph_of, names_of

CPU, TPU = described("cpu"), described("tpu")
X = jnp.ones((16, 8))
W = jnp.ones((8, 8))
BATCH = jnp.ones((2, 16, 8))


SOLID = {
    "elementwise work is fused": (lambda x: jnp.sin(x * 2 + 1), [X], ["sin"]),
    "operands and results of a product": (lambda x, w: jnp.tanh(jnp.sin(x) @ w) * 2, [X, W], ["sin", "dot_general", "mul"]),
    "reductions": (lambda x: x * 2 - (x * 3).max(), [X], ["reduce_max", "sub"]),
    "an expensive value read twice": (lambda x: (lambda e: e * e.sum() + 1)(jnp.exp(x)), [X], ["exp", "reduce_sum", "add"]),
    "a cheap value read twice": (lambda x: (lambda e: e * e.sum() + 1)(x * 2), [X], ["reduce_sum", "add"]),
    "views": (lambda x: x.T[:4] * 2, [X], ["mul"]),
    "a reduction of axes apart": (
        lambda x: x * 2 - (x * 3).max((0, 2), keepdims=True),
        [BATCH],
        ["mul", "reduce_max", "sub"],
    ),
    "concatenation": (lambda x: jnp.concatenate([x * 2, x]) + 1, [X], ["concatenate", "add"]),
    "gather": (lambda x: x[jnp.array([3, 1])] + 1, [X], ["gather", "add"]),
}


@pytest.mark.parametrize(("fun", "args", "wanted"), SOLID.values(), ids=SOLID)
def test_materialised(fun, args, wanted):
    _, operations, results = graph_of(fun, *args)
    found = names_of(operations, materialised(operations, results, CPU))
    assert [n for n in found if n in wanted] == wanted
    assert set(found) <= {*wanted, "select_n", "lt", "broadcast_in_dim", "concatenate"}


def test_a_gpu_repeats_the_functions_that_a_cpu_stores():
    """A tanh whose result two sums read."""
    _, operations, _ = graph_of(lambda x: (y := jnp.tanh(x), (y * 2).sum() + (y + 1).sum())[1], X)
    assert "tanh" in names_of(operations, materialised(operations, (), CPU))
    assert "tanh" not in names_of(operations, materialised(operations, (), described("cuda")))


@pytest.mark.parametrize(("impl", "written"), [("threefry2x32", False), ("rbg", True)])
def test_random_bits_of_jaxs_own_generator_are_made_where_they_are_read_on_tpus(impl, written):
    """XLA's generator is an operation of its own there."""
    key = jax.random.key(0, impl=impl)
    _, operations, _ = graph_of(lambda key, x: jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x, 0), key, X)
    assert "random_bits" in names_of(operations, materialised(operations, (), CPU))
    assert ("random_bits" in names_of(operations, materialised(operations, (), TPU))) == written


def test_what_a_loop_reads_is_written():
    """Random bits, though a product takes them into its fusion."""

    def masked(key, x):
        return jax.random.bits(key, x.shape, jnp.uint32).astype(x.dtype) @ x.T

    _, operations, results = graph_of(masked, jax.random.key(0), X)
    assert "random_bits" not in names_of(operations, stored_beside_products(operations, results, TPU).solid)
    *others, product = operations
    loop = Operation(product.primitive, product.inputs, product.outputs, product.params, known_cost=KnownCost(0.0, 0))
    assert product.inputs[0] in stored_beside_products([*others, loop], results, TPU).solid


# Values with memory, and those of them that are passed on inside a fusion.
BESIDE = {
    "operands": (lambda x, w: jnp.tanh(x) @ w, ["dot_general"], []),
    "what follows": (lambda x, w: jnp.tanh(x @ w) * 2, ["dot_general", "mul"], ["dot_general"]),
    "what follows, before a product": (
        lambda x, w: jnp.tanh(x @ w) @ w,
        ["dot_general", "tanh", "dot_general"],
        ["dot_general"],
    ),
    "what others read too": (
        lambda x, w: (lambda h: (jnp.tanh(h) @ w, h.sum(0)))(x @ w),
        ["dot_general", "dot_general", "reduce_sum"],
        [],
    ),
    "what is returned": (lambda x, w: (lambda h: (h, jnp.tanh(h)))(x @ w), ["dot_general", "tanh"], []),
}


@pytest.mark.parametrize(("fun", "stored", "passed"), BESIDE.values(), ids=BESIDE)
def test_stored_beside_products(fun, stored, passed):
    _, operations, results = graph_of(fun, X, W)
    found = stored_beside_products(operations, results, TPU)
    assert (names_of(operations, found.solid), names_of(operations, found.passed)) == (stored, passed)
