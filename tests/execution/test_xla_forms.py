"""Convolutions and products inside stages run in the form that is fast, and give the same."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import ckptgrad as cg
from ckptgrad.execution import returned
from ckptgrad.execution.xla_forms import apply_in_forms, rounding
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import variables_of
from ckptgrad.target.platform import Form, platforms
from tests.end_to_end.test_ways_to_shard import check
from tests.support.compare import assert_same
from tests.support.devices import on_devices


def waves(*shape):
    return jnp.sin(jnp.arange(float(jnp.prod(jnp.array(shape))))).reshape(shape)


# Operand, kernel, and the parameters of the convolution.
CASES = {
    "channels last": (waves(2, 8, 8, 4), waves(3, 3, 4, 4), {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}),
    "channels first": (waves(2, 4, 8, 8), waves(4, 4, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
    "mixed": (waves(2, 4, 8, 8), waves(3, 3, 4, 6), {"dimension_numbers": ("NCHW", "HWIO", "NHWC")}),
    "strided": (waves(2, 4, 9, 7), waves(4, 4, 3, 2), {"window_strides": (2, 1)}),
    "dilated": (waves(2, 4, 9, 7), waves(4, 4, 3, 2), {"rhs_dilation": (2, 1), "padding": ((2, 1), (0, 3))}),
    "transposed": (waves(2, 4, 5, 5), waves(4, 4, 3, 3), {"lhs_dilation": (2, 2), "padding": ((1, 2), (2, 1))}),
    "grouped": (waves(2, 4, 6, 6), waves(8, 2, 3, 3), {"feature_group_count": 2}),
    "grouped by batch": (waves(4, 3, 6, 6), waves(4, 3, 3, 3), {"batch_group_count": 2}),
    "one axis": (waves(2, 4, 9), waves(4, 4, 3), {"window_strides": (1,)}),
    "three axes": (waves(2, 3, 4, 5, 6), waves(3, 3, 2, 2, 2), {"window_strides": (1, 1, 1)}),
}


def loss_of(params):
    options = {"window_strides": (1, 1), "padding": "SAME"} | params

    def loss(kernel, x):
        return (jnp.sin(lax.conv_general_dilated(x, kernel, **options)) ** 2).sum()

    return loss


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize(("x", "kernel", "params"), CASES.values(), ids=CASES)
def test_gradients_are_those_of_jax(x, kernel, params, budget):
    loss = loss_of(params)
    found = jax.jit(cg.grad(loss, (0, 1), budget=budget))(kernel, x)
    assert_same(found, jax.jit(jax.grad(loss, (0, 1)))(kernel, x), scale=200)


@pytest.mark.parametrize("name", ["channels last", "channels first", "mixed", "strided", "one axis", "three axes"])
def test_convolutions_are_on_channels_last(name):
    """Of dilated and grouped ones XLA swaps the operands, or adds axes, before its code on CPU sees them."""
    x, kernel, params = CASES[name]
    text = jax.jit(cg.grad(loss_of(params), (0, 1))).lower(kernel, x).compile().as_text()
    axes = "".join(map(str, range(x.ndim - 2)))
    assert set(re.findall(r"dim_labels=(\S+?),", text)) == {f"b{axes}f_{axes}io->b{axes}f"}


def rows(text):
    """The number of rows, as they lie in memory, of what comes out of each product in a compiled program."""
    found = re.findall(r"= f32\[(\d+),(\d+)\]\{([\d,]+)\} dot\(", text)
    return [int(a if layout == "1,0" else b) for a, b, layout in found]


def test_gradients_of_weights_have_the_shorter_side_first():
    """XLA would swap the operands back to save the transposition, were there no barrier."""
    w, x = waves(24, 16), waves(32, 24)

    def loss(w):
        return (jnp.sin(x @ w) ** 2).sum()

    found = jax.jit(cg.grad(loss)).lower(w).compile()
    assert rows(found.as_text()) == [32, 16]
    assert rows(jax.jit(jax.grad(loss)).lower(w).compile().as_text()) == [32, 24]
    assert_same(found(w), jax.grad(loss)(w), scale=200)


@pytest.mark.parametrize("precision", [None, ("highest", "default")])
def test_swapped_products_keep_their_precision_and_type(precision):
    w, x = waves(24, 16).astype(jnp.bfloat16), waves(32, 24).astype(jnp.bfloat16)

    def loss(w):
        y = lax.dot(x, w, precision=precision, preferred_element_type=jnp.float32)
        return (jnp.sin(y) ** 2).sum()

    found, expected = jax.jit(cg.grad(loss))(w), jax.jit(jax.grad(loss))(w)
    assert found.dtype == expected.dtype == jnp.bfloat16
    assert_same(found, expected, scale=200)


def sides(text):
    """Rows and columns, as they lie in memory, of many products at once that contract the first axes of both operands."""
    found = re.findall(
        r"= f32\[3,(\d+),(\d+)\]\{([\d,]+)\} dot\(.*lhs_contracting_dims=\{1\}.*rhs_contracting_dims=\{1\}", text
    )
    return [(int(a), int(b)) if layout == "2,1,0" else (int(b), int(a)) for a, b, layout in found]


def test_many_products_at_once_have_the_shorter_side_first():
    """Of the gradients of keys and values, which take twice as long with the longer side first."""
    q, k = waves(3, 32, 16), jnp.cos(waves(3, 32, 16))

    def loss(q, k):
        return (jnp.einsum("bqk,bkd->bqd", jnp.sin(jnp.einsum("bqd,bkd->bqk", q, k)), k) ** 2).sum()

    found = jax.jit(cg.grad(loss, (0, 1))).lower(q, k).compile()
    assert sides(found.as_text()) == [(16, 32)] * 2
    assert (32, 16) in sides(jax.jit(jax.grad(loss, (0, 1))).lower(q, k).compile().as_text())
    assert_same(found(q, k), jax.grad(loss, (0, 1))(q, k), scale=200)


@pytest.mark.parametrize("sizes", [(2, 4, 3), (8, 3, 2), (3, 8, 4), (2, 64, 32)])
def test_models_with_short_sides_are_mapped_as_they_are(sizes):
    """XLA's CPU compiler would end the process where a product of many with sides of two or three is transposed."""
    examples, width, results = sizes
    x, w, v = waves(examples, width), waves(2, width, width), waves(2, width, results)

    def loss(w, v):
        return jnp.mean((jnp.tanh(x @ w) @ v) ** 2)

    assert_same(jax.jit(jax.vmap(cg.grad(loss, (0, 1))))(w, v), jax.vmap(jax.grad(loss, (0, 1)))(w, v), scale=200)


@pytest.mark.parametrize("written", ["qbhd,kbhd->bhqk", "bqhd,bkhd->hbqk", "dbq,dbk->bqk", "dqb,bkd->kqb"])
def test_many_products_have_their_batch_axes_anywhere(written):
    operands = written.split("->")[0].split(",")
    size = {"b": 2, "h": 3, "q": 5, "k": 4, "d": 6}
    q, k = (waves(*(size[n] for n in names)) for names in operands)

    def loss(q, k):
        return (jnp.sin(jnp.einsum(written, q, k)) ** 2).sum()

    assert_same(jax.jit(cg.grad(loss, (0, 1)))(q, k), jax.grad(loss, (0, 1))(q, k), scale=200)


@pytest.mark.parametrize(("result", "is_whole"), [(P("data"), True), (P(), False)])
def test_what_devices_gather_is_whole_before_products(result, is_whole):
    """Only where each device does its share of the product."""
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    x, w = waves(16, 8), waves(8, 4)
    op = cg.trace(jnp.dot, x, w).operations[-1]
    for v, spec in zip((*variables_of(op.inputs), *op.outputs), (P("data"), P("data"), result), strict=True):
        v.sharding = NamedSharding(mesh, spec)
    run = partial(apply_in_forms({Form.GATHERED_FIRST}), op)
    text = str(jax.make_jaxpr(lambda *values: run(values))(x, w))
    assert text.count("sharding_constraint") == is_whole
    assert_same(run((x, w)), [x @ w])


def check_gathered_first():
    """Parameters that are cut as activations are."""
    programs = []
    shardings_of = returned.result_shardings

    def seen(run, structs, mesh):
        programs.append(str(jax.make_jaxpr(run)(*structs)))
        return shardings_of(run, structs, mesh)

    returned.result_shardings = seen
    platforms()["cpu"] = replace(platforms()["cpu"], forms=frozenset({Form.GATHERED_FIRST}))
    check("sharded data x tensor", "min")
    # How results lie follows from what is written, not from what is gathered.
    assert [program.count("sharding_constraint") for program in programs] == [0]


def test_gradients_of_what_is_gathered_first_are_those_of_jax():
    on_devices(8, __name__, "check_gathered_first()")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "complex64"])
def test_what_is_kept_of_products_is_rounded_to_what_it_is(dtype):
    """Every bit stays: of the largest numbers and the least, of infinities and of zeros; types without a rounding of theirs
    are left alone."""
    with jax.enable_x64(dtype == "float64"):
        about = jnp.finfo(dtype)
        least = about.smallest_subnormal
        x = jnp.array([[0.0, -0.0, 1 / 3, about.max, about.min, about.tiny, about.eps, least, jnp.inf, -jnp.inf]], dtype)
        one = jnp.ones((1, 1), dtype)
        operations = cg.trace(lambda x: lax.neg(lax.dot(x, one)), x.T).operations
        product = operations[0]
        run = rounding(lambda op, inputs: [inputs[0]], operations, product.outputs)
        assert ("reduce_precision" in str(jax.make_jaxpr(lambda x: run(product, [x, one]))(x.T))) == (
            dtype not in ("float8_e4m3fn", "complex64")
        )
        for way in (lambda f: f, jax.jit):
            assert np.asarray(way(lambda x: run(product, [x, one])[0])(x.T)).tobytes() == np.asarray(x.T).tobytes()
        nan = jnp.full((1, 1), jnp.nan, dtype)
        assert jnp.isnan(run(product, [nan, one])[0]).all()


@pytest.mark.parametrize(
    ("fun", "rounded"),
    [
        (lambda x: jnp.sin(lax.dot(x, x)), 1),
        (lambda x: lax.dot(lax.dot(x, x), x), 2),
        (lambda x: lax.dot(x, x), 1),
        # Products that a view reads, and what is no product.
        (lambda x: lax.reshape(lax.dot(x, x), (4,)), 0),
        (lambda x: jnp.sin(lax.dot(x, x)) + lax.dot(x, x).T, 1),
        (lambda x: jnp.sin(jnp.tanh(x)), 0),
    ],
)
def test_and_nothing_else_is(fun, rounded):
    x = jnp.ones((2, 2))
    operations = cg.trace(fun, x).operations
    kept = {v for op in operations for v in op.outputs}
    run, nothing = rounding(apply, operations, kept), rounding(apply, operations, ())
    for way, count in ((run, rounded), (nothing, 0)):
        texts = [str(jax.make_jaxpr(lambda x, op=op, way=way: way(op, [x] * len(op.inputs)))(x)) for op in operations]
        assert sum("reduce_precision" in text for text in texts) == count
