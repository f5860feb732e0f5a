"""Seconds of fusions whose products go on beside other arithmetic and memory traffic, by hand."""

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.target.overlapped import FOLDED_AS_MADE, overlapped_seconds
from ckptgrad.target.target import described

TARGET = described("tpu")
RATE = TARGET.rates.read_rate
X, W = jnp.ones((64, 32)), jnp.ones((32, 16))
READ, WEIGHT, MADE = 4 * 64 * 32 / RATE, 4 * 32 * 16 / RATE, 4 * 64 * 16 / RATE


def seconds(function, *args, near=False, **arithmetic):
    """Of a function whose primitives take the seconds that are given, and others none."""
    graph = cg.trace(function, *args)
    return overlapped_seconds(graph.operations, graph.outputs, TARGET, lambda op: arithmetic.get(op.name, 0.0), near)


def test_a_fusion_takes_as_long_as_the_slowest_of_its_parts():
    moved = READ + WEIGHT + MADE
    assert seconds(jnp.dot, X, W, dot_general=0.0) == pytest.approx(moved)
    assert seconds(jnp.dot, X, W, dot_general=2 * moved) == pytest.approx(2 * moved)


def test_a_product_takes_what_follows_it_into_its_fusion():
    def layer(x, w):
        return jnp.tanh(x @ w)

    assert seconds(layer, X, W, dot_general=1.0, tanh=0.75) == pytest.approx(1.0)
    assert seconds(layer, X, W, dot_general=1.0, tanh=1.5) == pytest.approx(1.5)


def test_random_bits_are_made_in_each_fusion_that_reads_them():
    def layer(key, x, w):
        mask = jax.random.bits(key, x.shape).astype(x.dtype)
        return mask @ w, (mask * 2) @ w

    assert seconds(layer, jax.random.key(0), X, W, dot_general=1.0, random_bits=3.0) == pytest.approx(6.0, rel=1e-3)


def test_and_what_makes_its_operands():
    def layer(x, w):
        return jnp.tanh(x) @ w

    assert seconds(layer, X, W, dot_general=1.0, tanh=0.75) == pytest.approx(1.0)
    assert seconds(layer, X, W) == pytest.approx(READ + WEIGHT + MADE)


def test_cheap_work_and_what_is_moved_follow_each_other_beside_a_product():
    def layer(x, w):
        return jnp.tanh(jnp.sin(x) @ w)

    moved = READ + WEIGHT + MADE
    for product, cheap, total in [(0.5, 0.2, 0.5), (0.5, 0.3, 0.6)]:
        found = seconds(layer, X, W, dot_general=product * moved, sin=cheap * moved, tanh=cheap * moved)
        assert found == pytest.approx(max(product, 2 * cheap + 1) * moved)
        found = seconds(layer, X, W, dot_general=product, sin=cheap, tanh=cheap)
        assert found == pytest.approx(total)


def test_what_several_fusions_read_is_made_in_each():
    def twice(x, w):
        h = jnp.tanh(x)
        return h @ w, h @ w

    assert seconds(twice, X, W, tanh=1.0, dot_general=0.75) == pytest.approx(2.0)
    # Once in each, however often that reads it.
    assert seconds(lambda x: (lambda h: h + h * h)(jnp.tanh(x)), X, tanh=1.0) == pytest.approx(1.0)


def test_a_product_that_others_read_too_is_written_first():
    def layer(x, w):
        h = x @ w
        return jnp.tanh(h), h.T @ x

    assert seconds(layer, X, W, dot_general=1.0, tanh=0.75) == pytest.approx(2.75)


def test_and_what_folds_the_result_of_that_as_far_as_there_is_time():
    def layer(x, w):
        h = jnp.tanh(x @ w)
        return h, h.sum(0)

    for folding, total in [(0.2, 1.0), (0.75, 0.75 + 0.75 * FOLDED_AS_MADE)]:
        assert seconds(layer, X, W, dot_general=1.0, tanh=0.75, reduce_sum=folding) == pytest.approx(total)


def test_products_follow_one_another():
    assert seconds(lambda x, w: (x @ w) @ w.T, X, W, dot_general=1.0) == pytest.approx(2.0)


def test_near_memory_moves_operands_and_results_alone():
    def twice(x, w, v):
        return (x @ w) @ v

    last = 4 * 16 * 32 / RATE
    assert seconds(twice, X, W, W.T) == pytest.approx(2 * READ + WEIGHT + 2 * MADE + last)
    assert seconds(twice, X, W, W.T, near=True) == pytest.approx(2 * READ + WEIGHT + last)
