"""Convolutions inside stages run on channels last, whatever the user's order, and give the same."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import ckptgrad as cg
from tests.compare import assert_same


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
