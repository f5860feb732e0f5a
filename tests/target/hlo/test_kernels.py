"""Seconds of kernels: bytes moved, arithmetic, and what it takes to start them."""

from __future__ import annotations

import pytest

from ckptgrad.target.hlo.kernels import kernel_seconds
from ckptgrad.target.hlo.text import read_module
from ckptgrad.target.rates import Rates
from tests.target.hlo.programs import GPU, one_line

FREE = float("inf")
# Rates at which one thing alone takes time: a second a byte moved, an operation, a kernel.
BYTES = Rates(FREE, FREE, FREE, 1.0, 1.0)
PRODUCTS = Rates(1.0, FREE, FREE, FREE, FREE)
FUNCTIONS = Rates(FREE, FREE, 1.0, FREE, FREE)
STARTS = Rates(FREE, FREE, FREE, FREE, FREE, launch=1.0)
X, W, ROW = 512 * 256 * 4, 256 * 256 * 4, 512 * 4
INDEX = 4


@pytest.mark.parametrize(
    ("rates", "of_a_trip"),
    [
        (PRODUCTS, 2 * 512 * 256 * 256),
        (FUNCTIONS, 512 * 256),
        (STARTS, 4),
        # One weight is read and written, the layer reads it, a row of its result is sliced and put among the others.
        (BYTES, (2 * W + INDEX) + (2 * X + W) + 2 * ROW + (2 * ROW + INDEX)),
    ],
    ids=["products", "functions", "starts", "bytes"],
)
def test_a_loop(rates, of_a_trip):
    assert kernel_seconds(read_module(GPU), rates, without="made") == 12 * of_a_trip


def test_a_scope_is_left_out():
    module = read_module(GPU)
    assert kernel_seconds(module, STARTS) == kernel_seconds(module, STARTS, without="made") + 1


@pytest.mark.parametrize(
    ("line", "operands", "moved"),
    [
        ("f32[8]{0} add(%0, %1)", ["f32[8]{0}", "f32[8]{0}"], 96),
        ("f32[2]{0} slice(%0), slice={[0:2]}", ["f32[8]{0}"], 16),
        ("f32[8]{0} dynamic-update-slice(%0, %1, %2)", ["f32[8]{0}", "f32[2]{0}", "s32[]"], 8 + 4 + 8),
        ("(f32[8]{0}, s8[1000]{0}) custom-call(%0)", ["f32[8]{0}"], 64),
        ("f32[8]{0} bitcast(%0)", ["f32[8]{0}"], 0),
    ],
)
def test_bytes_that_one_instruction_moves(line, operands, moved):
    assert kernel_seconds(read_module(one_line(line, *operands)), BYTES) == moved


def test_a_kernel_takes_as_long_as_the_slower_of_arithmetic_and_bytes():
    line = "f32[8,8]{1,0} dot(%0, %1), lhs_contracting_dims={1}", "f32[8,8]{1,0}", "f32[8,8]{1,0}"
    module = read_module(one_line(*line))
    for product_rate in (1.0, 1e9):
        rates = Rates(product_rate, FREE, FREE, 1.0, 1.0, launch=5.0)
        assert kernel_seconds(module, rates) == 5 + max(1024 / product_rate, 3 * 256)
