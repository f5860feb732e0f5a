"""How much arithmetic an operation does: counted by hand."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.graph.work import flops, has_batch_dimensions, inner_programs

X, W, BATCH = jnp.ones((4, 6)), jnp.ones((6, 5)), jnp.ones((3, 4, 6))
IMAGE, KERNEL = jnp.ones((2, 8, 8, 3)), jnp.ones((5, 5, 3, 7))
NHWC = ("NHWC", "HWIO", "NHWC")


def convolution(x, k, **options):
    return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NHWC, **options)


# A function, its arguments, the primitive and its arithmetic.
COUNTED = {
    "elementwise": (jnp.sin, [X], "sin", 24),
    "of two": (jnp.add, [X, X], "add", 24),
    "a sum counts what it reads": (jnp.sum, [X], "reduce_sum", 24),
    "a product": (jnp.matmul, [X, W], "dot_general", 2 * 4 * 5 * 6),
    "a product of transposes": (lambda x, w: lax.dot_general(w, x, (((0,), (1,)), ((), ()))), [X, W], "dot_general", 240),
    "over two axes": (lambda a, b: jnp.einsum("bij,bij->", a, b), [BATCH, BATCH], "dot_general", 2 * 72),
    "a batched product": (lambda a, b: jnp.einsum("bij,bkj->bik", a, b), [BATCH, BATCH], "dot_general", 2 * 3 * 16 * 6),
    "a convolution": (convolution, [IMAGE, KERNEL], "conv_general_dilated", 2 * (2 * 8 * 8 * 7) * (5 * 5 * 3)),
    "a grouped convolution": (
        lambda x, k: convolution(x, k, feature_group_count=3),
        [IMAGE, jnp.ones((5, 5, 1, 6))],
        "conv_general_dilated",
        2 * (2 * 8 * 8 * 6) * (5 * 5),
    ),
    "a scan counts each step": (
        lambda x, w: lax.scan(lambda c, _: (c @ (w @ w.T), None), x, None, length=7)[0],
        [X, W],
        "scan",
        7 * (2 * 36 * 5 + 2 * 24 * 6 + 30),
    ),
    "a loop of unknown length counts one step": (
        lambda x: lax.while_loop(lambda c: c.sum() < 3, lambda c: c + 1, x),
        [X],
        "while",
        24 + 24 + 1,
    ),
    "a cond counts its branches": (lambda x: lax.cond(x.sum() > 0, jnp.sin, lambda x: x * 2 + 1, x), [X], "cond", 3 * 24),
}


@pytest.mark.parametrize(("fun", "args", "primitive", "count"), COUNTED.values(), ids=COUNTED)
def test_flops(fun, args, primitive, count):
    (op,) = (op for op in cg.trace(fun, *args).operations if op.name == primitive)
    assert flops(op) == count


@pytest.mark.parametrize(("spec", "batched"), [("ij,kj->ik", False), ("bij,bkj->bik", True), ("bij,kj->bik", False)])
def test_batch_dimensions(spec, batched):
    a, b = (BATCH if part.startswith("b") else X for part in spec.split("->")[0].split(","))
    (op,) = (op for op in cg.trace(lambda a, b: jnp.einsum(spec, a, b), a, b).operations if op.name == "dot_general")
    assert has_batch_dimensions(op) == batched
    (sine,) = cg.trace(jnp.sin, X).operations
    assert not has_batch_dimensions(sine)


def test_programs_inside():
    def names(fun, primitive):
        (op,) = (op for op in cg.trace(fun, X).operations if op.name == primitive)
        return sorted(e.primitive.name for jaxpr in inner_programs(op.params) for e in jaxpr.eqns)

    assert names(lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), "cond") == ["cos", "sin"]
    assert names(lambda x: lax.while_loop(lambda c: c[0, 0] < 3, jnp.exp, x), "while")[-3:] == ["lt", "slice", "squeeze"]
    assert inner_programs(cg.trace(jnp.sin, X).operations[0].params) == []
