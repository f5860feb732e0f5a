"""Seconds of operations, by rates that can be counted with."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.graph.graph import KnownCost, Operation
from ckptgrad.target.links import Links
from ckptgrad.target.rates import Rates
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import described

# Per second 1000 operations of products, 100 of elements, 10 transcendental; 20 bytes written, 40 read.
RATES = Rates(1000.0, 100.0, 10.0, 20.0, 40.0, 0.5, half_rate=2000.0, exact_rate=250.0, double_rate=500.0)
ROOFLINE = Roofline(replace(described("cpu"), rates=RATES))
X = jnp.ones((2, 5))
KEY = jax.random.key(0)


def operation(fun, *args):
    (op,) = cg.trace(fun, *args).operations
    return op


def test_arithmetic_by_class():
    """Ten entries; a product of 2 x 5 with 5 x 2 numbers takes 40 operations."""
    assert ROOFLINE.arithmetic(operation(lambda x: x * 2.0, X)) == pytest.approx(10 / 100)
    assert ROOFLINE.arithmetic(operation(jnp.tanh, X)) == pytest.approx(10 / 10)
    assert ROOFLINE.arithmetic(operation(lax.dot, X, X.T)) == pytest.approx(40 / 1000)


def test_random_bits_are_elementwise_work():
    """Ten numbers of 75 operations each."""
    op = next(op for op in cg.trace(lambda key: jax.random.bits(key, (10,)), KEY).operations if op.name == "random_bits")
    assert ROOFLINE.arithmetic(op) == pytest.approx(10 * 75 / 100)


@pytest.mark.parametrize(("dtype", "rate"), [("bfloat16", 2000), ("float32", 1000), ("complex64", 1000), ("int32", 1000)])
def test_products_by_type(dtype, rate):
    x = jnp.ones((2, 5), dtype)
    assert ROOFLINE.arithmetic(operation(lax.dot, x, x.T)) == pytest.approx(40 / rate)


def test_products_in_full_precision():
    op = operation(lambda x, y: lax.dot(x, y, precision=lax.Precision.HIGHEST), X, X.T)
    assert ROOFLINE.arithmetic(op) == pytest.approx(40 / 250)


def test_a_run_writes_its_results_to_fresh_memory_and_reads_what_it_is_given():
    """40 bytes each: read at 40 bytes per second, written at 20."""
    graph = cg.trace(lambda x: x * 2.0, X)
    assert ROOFLINE.seconds(graph.operations, graph.outputs) == pytest.approx(10 / 100 + 40 / 40 + 40 / 20)
    # In a loop the memory was in use before, and starting takes time.
    assert ROOFLINE.warm_seconds(graph.operations, graph.outputs) == pytest.approx(10 / 100 + 40 / 40 + 40 / 40 + 0.5)


def test_on_gpus_each_kernel_is_started():
    """A product, and all that is fused behind it: two kernels, outside of loops too."""
    graph = cg.trace(lambda x, y: jnp.tanh(jnp.sin(lax.dot(x, y))), X, jnp.ones((5, 2)))
    roofline = Roofline(replace(described("gpu"), rates=RATES))
    unstarted = replace(roofline.target, rates=replace(RATES, launch=0.0))
    started = roofline.seconds(graph.operations, graph.outputs) - Roofline(unstarted).seconds(
        graph.operations, graph.outputs
    )
    assert started == pytest.approx(2 * 0.5)


def test_between_operands_and_results_nothing_is_moved_that_stays_near():
    """40 bytes are read and 40 written; the tanh of a product's operand, in memory otherwise, is neither."""
    graph = cg.trace(lambda x: lax.dot(jnp.tanh(x), x.T), X)
    near, far = (f(graph.operations, graph.outputs) for f in (ROOFLINE.near_seconds, ROOFLINE.warm_seconds))
    inside = [v for op in graph.operations for v in op.outputs if op.name == "tanh"]
    assert far - near >= 2 * ROOFLINE.target.total_bytes(inside) / ROOFLINE.rates.read_rate


def test_done_again_inside_a_backward():
    """A view costs nothing, fused arithmetic no memory; a product's result is written and read."""
    assert ROOFLINE.again(operation(lambda x: x.T, X)) == 0
    assert ROOFLINE.again(operation(lambda x: x * 2.0, X)) == pytest.approx(10 / 100)
    assert ROOFLINE.again(operation(lax.dot, X, X.T)) == pytest.approx(40 / 1000 + 16 / 40)


def test_a_planned_loop_takes_what_its_plan_says():
    op = operation(jnp.tanh, X)
    loop = Operation(op.primitive, op.inputs, op.outputs, op.params, known_cost=KnownCost(7.0, 0, list))
    assert ROOFLINE.arithmetic(loop) == 7.0


def test_keeping_a_byte_writes_it_and_reads_it():
    assert ROOFLINE.keeping == pytest.approx(1 / 20 + 1 / 40)


def test_devices_share_the_work_and_wait_for_what_they_send():
    mesh = AbstractMesh((4,), ("data",), axis_types=(AxisType.Auto,))
    unjoined = replace(ROOFLINE.target, links=None)
    op = operation(jnp.dot, jnp.ones((16, 8)), jnp.ones((8, 32)))
    alone = Roofline(unjoined).arithmetic(op)
    for v, spec in zip((*op.inputs, *op.outputs), (P("data"), P("data"), P("data")), strict=True):
        v.sharding = NamedSharding(mesh, spec)
    assert Roofline(unjoined).arithmetic(op) == pytest.approx(alone / 4)
    joined = replace(unjoined, links=Links(3.0))
    assert Roofline(joined).arithmetic(op) == pytest.approx(alone / 4 + 4 * 8 * 32 * 3 / 4 / 3.0)
