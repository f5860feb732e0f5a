"""Rows of products, convolutions, Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.cases import Case


def dot(dimension_numbers: Any, **kw: Any) -> Callable:
    return lambda x, y: lax.dot_general(x, y, dimension_numbers, **kw)


PRODUCTS = [
    Case("matmul", jnp.matmul, [(3, 4), (4, 5)], ["dot_general"]),
    Case("matrix vector", jnp.matmul, [(3, 4), (4,)], ["dot_general"]),
    Case("inner", jnp.matmul, [(4,), (4,)], ["dot_general"]),
    Case("outer", dot((((), ()), ((), ()))), [(3,), (2, 2)], ["dot_general"]),
    Case("batched", dot((((2,), (1,)), ((0,), (0,)))), [(2, 3, 4), (2, 4, 5)], ["dot_general"]),
    Case("batch inside", dot((((0,), (2,)), ((1,), (0,)))), [(4, 2, 3), (2, 5, 4)], ["dot_general"]),
    # For the gradient of the second operand two neighbouring axes are contracted, before or behind that of the batch.
    Case("two rows, batched", dot((((3,), (1,)), ((0,), (0,)))), [(2, 3, 2, 4), (2, 4, 5)], ["dot_general"]),
    Case("two rows before the batch", dot((((3,), (1,)), ((2,), (0,)))), [(3, 2, 2, 4), (2, 4, 5)], ["dot_general"]),
    Case("two rows around the batch", dot((((3,), (1,)), ((1,), (0,)))), [(3, 2, 2, 4), (2, 4, 5)], ["dot_general"]),
    Case(
        "two contracted, unordered",
        dot((((3, 1), (0, 2)), ((2, 0), (3, 1)))),
        [(2, 4, 3, 5), (5, 2, 4, 3, 6)],
        ["dot_general"],
    ),
    Case(
        "preferred type",
        dot((((1,), (0,)), ((), ())), preferred_element_type=np.float32),
        [(3, 4), (4, 5)],
        ["dot_general"],
        check=False,
    ),
    Case("precision", dot((((1,), (0,)), ((), ())), precision="highest"), [(3, 4), (4, 2)], ["dot_general"]),
    Case(
        "einsum",
        lambda x, y: jnp.einsum("bij,kjb->ik", x, y),
        [(2, 3, 4), (5, 4, 2)],
        ["dot_general"],
        exact=False,  # XLA adds up in an order that depends on the machine where operands are laid out differently
    ),
    Case(
        "ragged_dot",
        lambda x, y: lax.ragged_dot(x, y, np.int32([2, 0, 3])),
        [(5, 3), (3, 3, 2)],
        ["ragged_dot_general"],
        order=1,
        exact=False,
        batches=False,
    ),
    Case(
        "ragged_dot batched, transposed",
        lambda x, y: lax.ragged_dot_general(
            x,
            y,
            np.int32([[2, 0, 3], [1, 1, 3]]),
            lax.RaggedDotDimensionNumbers((((0,), (3,)), ((1,), (0,))), [2], [2]),
        ),
        [(4, 2, 5), (2, 3, 3, 4)],
        ["ragged_dot_general"],
        order=1,
        exact=False,
        batches=False,
    ),
    Case(
        "ragged_dot in sums",
        lambda x, y: lax.ragged_dot_general(
            x, y, np.int32([2, 0, 3]), lax.RaggedDotDimensionNumbers((((0,), (1,)), ((), ())), [0], [])
        ),
        [(5, 3), (2, 5)],
        ["ragged_dot_general"],
        in_jax=False,
        batches=False,
    ),
    Case("square of itself", lambda x: x @ x, [(3, 3)], ["dot_general"]),
]


def conv(strides: Any = (1, 1), padding: Any = "VALID", **kw: Any) -> Callable:
    return lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **kw)


CONV = ["conv_general_dilated"]
CONVOLUTIONS = [
    Case("conv", conv(), [(2, 3, 5, 4), (4, 3, 3, 2)], CONV),
    Case("conv stride", conv((2, 3), "SAME"), [(2, 3, 6, 7), (4, 3, 3, 2)], CONV),
    Case("conv padding", conv((2, 1), [(1, 2), (0, 3)]), [(1, 2, 5, 4), (3, 2, 3, 2)], CONV),
    Case("conv crop", conv((1, 2), [(-1, 2), (1, -1)]), [(1, 2, 6, 6), (3, 2, 2, 3)], CONV),
    Case("conv rhs dilation", conv((1, 2), "SAME", rhs_dilation=(2, 3)), [(1, 2, 8, 9), (3, 2, 3, 2)], CONV),
    Case(
        "conv lhs dilation",
        conv((1, 2), [(2, 1), (0, 2)], lhs_dilation=(2, 3)),
        [(1, 2, 4, 5), (3, 2, 3, 2)],
        CONV,
    ),
    Case("conv groups", conv((1, 2), "SAME", feature_group_count=2), [(2, 4, 4, 5), (6, 2, 3, 2)], CONV),
    Case("conv depthwise", conv((1, 1), "SAME", feature_group_count=3), [(2, 3, 4, 4), (3, 1, 3, 3)], CONV),
    Case("conv batch groups", conv((2, 1), "SAME", batch_group_count=2), [(4, 3, 4, 5), (6, 3, 3, 2)], CONV),
    Case(
        "conv NHWC",
        conv((2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2),
        [(2, 5, 4, 4), (3, 2, 2, 6)],
        CONV,
    ),
    Case("conv 1d", conv((2,), [(1, 1)]), [(2, 3, 7), (4, 3, 3)], CONV),
    Case(
        "conv all",
        conv((2, 3), [(2, 1), (1, 3)], lhs_dilation=(2, 1), rhs_dilation=(1, 2), feature_group_count=2),
        [(2, 4, 5, 6), (2, 2, 3, 2)],
        CONV,
    ),
    Case("conv transpose", lambda x, w: lax.conv_transpose(x, w, (2,), "SAME"), [(2, 4, 3), (3, 3, 2)], CONV),
]

FOURIER = [
    Case("fft", jnp.fft.fft, [(2, 6)], ["fft"], complex=True, bfloat16=False),
    Case("fft padded", lambda z: jnp.fft.fft(z, 9), [(2, 6)], ["fft"], complex=True, bfloat16=False),
    Case("ifft2", jnp.fft.ifft2, [(3, 4, 5)], ["fft"], complex=True, bfloat16=False),
    Case("rfft even", jnp.fft.rfft, [(2, 6)], ["fft"], bfloat16=False, exact=False),
    Case("rfft2 odd", jnp.fft.rfft2, [(3, 5)], ["fft"], bfloat16=False, exact=False),
    Case("irfft even", jnp.fft.irfft, [(2, 4)], ["fft"], complex=True, bfloat16=False),
    Case("irfft2 odd", lambda z: jnp.fft.irfft2(z, (3, 5)), [(3, 3)], ["fft"], complex=True, bfloat16=False),
]
