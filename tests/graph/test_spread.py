"""What devices receive in an operation, and how they share its work."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.graph.spread import Transfer, bytes_whole, devices_sharing, gathered_operands, is_transfer, transfers

MESH = AbstractMesh((4, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
ROWS, INNER, COLUMNS = 16, 8, 32


def laid_out(fun, *args, specs, out):
    """The last operation of a function, its operands and its result laid out."""
    op = cg.trace(fun, *args).operations[-1]
    for v, spec in zip((*op.inputs, op.outputs[0]), (*specs, out), strict=True):
        v.sharding = NamedSharding(MESH, spec)
    return op


def product(left, right, out):
    return laid_out(jnp.dot, jnp.ones((ROWS, INNER)), jnp.ones((INNER, COLUMNS)), specs=(left, right), out=out)


WEIGHT, RESULT, ACTIVATION = 4 * INNER * COLUMNS, 4 * ROWS * COLUMNS, 4 * ROWS * INNER


@pytest.mark.parametrize(
    ("left", "right", "out", "received", "devices"),
    [
        # rows of their own, weights whole: nothing is sent
        (P("data"), P(), P("data"), [], 4),
        # sharded parameters are gathered: three quarters of them, of devices that are six numbers apart
        (P("data"), P("data"), P("data"), [(WEIGHT / 4 * 3, 7)], 4),
        (P("data"), P(None, "data"), P("data"), [(WEIGHT / 4 * 3, 7)], 4),
        # tensor parallel: by columns, then summed over what rows of weights make
        (P("data"), P(None, "model"), P("data", "model"), [], 8),
        (P("data", "model"), P("model"), P("data"), [(2 * RESULT / 4 / 2, 2)], 8),
        (P("data"), P("model"), P("data"), [(2 * RESULT / 4 / 2, 2)], 8),
        # both
        (P("data"), P("data", "model"), P("data", "model"), [(WEIGHT / 8 * 3, 7)], 8),
        # the result is gathered in the operand
        (P(None, "model"), P(), P(), [(2 * RESULT / 2, 2)], 2),
        (P("data"), P(), P(), [(ACTIVATION / 4 * 3, 7)], 1),
        (P(), P(), P(), [], 1),
    ],
)
def test_products(left, right, out, received, devices):
    op = product(left, right, out)
    assert transfers(op) == [Transfer(*pair) for pair in received]
    assert devices_sharing(op) == devices


def test_a_parameter_gradient_is_summed_in_parts():
    """Rows of both are on different devices, and so are the parts of the sum."""
    args = jnp.ones((ROWS, INNER)), jnp.ones((ROWS, COLUMNS))
    op = laid_out(lambda x, g: lax.dot_general(x, g, (((0,), (0,)), ((), ()))), *args, specs=(P("data"),) * 2, out=P("data"))
    assert transfers(op) == [Transfer(WEIGHT * 3 / 4, 7)]
    assert devices_sharing(op) == 4


def test_batches_stay_where_they_are():
    op = laid_out(
        lambda q, k: jnp.einsum("bqd,bkd->bqk", q, k),
        *[jnp.ones((4, 8, 2))] * 2,
        specs=(P("data", "model"), P("data", "model")),
        out=P("data", "model"),
    )
    # Of the keys all are needed.
    assert transfers(op) == [Transfer(4 * 4 * 8 * 2 / 8, 2)]


@pytest.mark.parametrize(
    ("before", "after", "received"),
    [
        (P("data"), P(), [(RESULT / 4 * 3, 7)]),
        (P(), P("data"), []),
        (P("data"), P(None, "data"), [(RESULT / 4 * 3 / 4, 7)]),
        (P("data", "model"), P("data"), [(RESULT / 8, 2)]),
        (P("data"), P("data"), []),
    ],
)
def test_bringing_a_value_elsewhere(before, after, received):
    there = NamedSharding(MESH, after)
    op = laid_out(lambda x: lax.with_sharding_constraint(x, there), jnp.ones((ROWS, COLUMNS)), specs=(before,), out=after)
    assert transfers(op) == [Transfer(*pair) for pair in received]
    assert is_transfer(op) == bool(received)


def test_sums_over_what_is_cut():
    op = laid_out(lambda x: x.sum(0), jnp.ones((ROWS, COLUMNS)), specs=(P("data", "model"),), out=P("model"))
    assert transfers(op) == [Transfer(2 * 4 * COLUMNS / 2 * 3 / 4, 7)]
    assert devices_sharing(op) == 8


BYTES = 4 * ROWS * COLUMNS


@pytest.mark.parametrize(
    ("body", "received", "span"),
    [
        (lambda x: lax.psum(x, "data"), 2 * BYTES / 8 * 3 / 4, 7),
        (lambda x: lax.psum(x, "model"), 2 * BYTES / 8 / 2, 2),
        (lambda x: lax.psum(x, ("data", "model")), 2 * BYTES / 8 * 7 / 8, 8),
        (lambda x: lax.all_gather(x, "data"), BYTES / 8 * 3, 7),
        (lambda x: lax.psum_scatter(x, "data", tiled=True), BYTES / 8 * 3 / 4, 7),
        (lambda x: lax.ppermute(x, "data", [(0, 1)]), BYTES / 8, 7),
        (lambda x: lax.fori_loop(0, 5, lambda _, x: lax.ppermute(x, "data", [(0, 1)]), x), 5 * BYTES / 8, 7),
        (lambda x: jax.jit(lambda x: lax.all_to_all(x, "data", 1, 0, tiled=True))(x), BYTES / 8 * 3 / 4, 7),
    ],
)
def test_collectives(body, received, span):
    mapped = jax.shard_map(body, mesh=MESH, in_specs=P("data", "model"), out_specs=P("data", "model"), check_vma=False)
    (op,) = cg.trace(lambda x: mapped(x), jnp.ones((ROWS, COLUMNS))).operations
    assert transfers(op) == [Transfer(received, span)]


def test_elementwise_work_is_shared_by_those_who_have_a_part():
    op = laid_out(jnp.sin, jnp.ones((ROWS, COLUMNS)), specs=(P("data"),), out=P("data"))
    assert (transfers(op), devices_sharing(op)) == ([], 4)


@pytest.mark.parametrize(
    ("left", "right", "out", "held"),
    [
        (P("data"), P("data"), P("data"), WEIGHT),
        (P("data"), P("data", "model"), P("data", "model"), WEIGHT // 2),
        (P("data"), P(None, "model"), P("data", "model"), 0),
        (P(), P(), P(), 0),
    ],
)
def test_what_is_gathered_is_held_whole(left, right, out, held):
    op = product(left, right, out)
    assert bytes_whole(op) == held
    assert {*gathered_operands(op)} == ({1} if held else set())
    for sharding in gathered_operands(op).values():
        assert "data" not in str(sharding.spec)


@pytest.mark.parametrize(("out", "found"), [(P("data"), {1}), (P(), set())])
def test_what_is_gathered_where_devices_share_the_product(out, found):
    """Along axes that do not cut the result it may as well be gathered after the product."""
    op = product(P("data"), P("data"), out)
    assert {*gathered_operands(op, shared=True)} == found


def test_all_terms_of_a_sum_in_parts_are_held():
    args = jnp.ones((ROWS, INNER)), jnp.ones((ROWS, COLUMNS))
    op = laid_out(lambda x, g: lax.dot_general(x, g, (((0,), (0,)), ((), ()))), *args, specs=(P("data"),) * 2, out=P("data"))
    assert bytes_whole(op) == WEIGHT
