"""Arithmetic of products in a compiled program, counted by hand."""

from __future__ import annotations

import pytest

from ckptgrad.target.hlo.products import Product, product_of
from ckptgrad.target.hlo.text import read_module
from tests.target.hlo.programs import one_line

CONV = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f"
IMAGES, KERNELS = "f32[32,56,56,64]{3,2,1,0}", "f32[128,3,3,64]{3,2,1,0}"
RESULT = "f32[32,56,56,128]{3,2,1,0}"
GEMM = 'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}'
PRODUCTS = {
    "product": (
        "f32[8,16]{1,0} dot(%0, %1), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
        ("f32[8,32]{1,0}", "f32[32,16]{1,0}"),
        Product(2 * 8 * 16 * 32, 32, False),
    ),
    "product in all bits": (
        "f32[8,16]{1,0} dot(%0, %1), lhs_contracting_dims={1}, operand_precision={highest,highest}",
        ("f32[8,32]{1,0}", "f32[32,16]{1,0}"),
        Product(2 * 8 * 16 * 32, 32, True),
    ),
    "batched product of complex numbers": (
        "c64[4,8,16]{2,1,0} dot(%0, %1), lhs_batch_dims={0}, lhs_contracting_dims={2}",
        ("c64[4,8,32]{2,1,0}", "c64[4,32,16]{2,1,0}"),
        Product(8 * 4 * 8 * 16 * 32, 32, False),
    ),
    "library's product": (
        f'(bf16[8,16]{{1,0}}, s8[33554432]{{0}}) custom-call(%0, %1), custom_call_target="__cublas$gemm", {GEMM}',
        ("bf16[8,32]{1,0}", "bf16[32,16]{1,0}"),
        Product(2 * 8 * 16 * 32, 16, False),
    ),
    "convolution": (
        f"{RESULT} convolution(%0, %1), {CONV}", (IMAGES, KERNELS), Product(2 * 32 * 56 * 56 * 128 * 9 * 64, 32, False)
    ),
    "library's convolution": (
        f'({RESULT}, u8[0]{{0}}) custom-call(%0, %1), {CONV}, custom_call_target="__cudnn$convForward"',
        (IMAGES, KERNELS),
        Product(2 * 32 * 56 * 56 * 128 * 9 * 64, 32, False),
    ),
    "its gradient of the images": (
        f'({IMAGES}, u8[0]{{0}}) custom-call(%0, %1), {CONV}, custom_call_target="__cudnn$convBackwardInput"',
        (RESULT, KERNELS),
        Product(2 * 32 * 56 * 56 * 128 * 9 * 64, 32, False),
    ),
    "its gradient of the kernels": (
        f'({KERNELS}, u8[0]{{0}}) custom-call(%0, %1), {CONV}, custom_call_target="__cudnn$convBackwardFilter"',
        (IMAGES, RESULT),
        Product(2 * 32 * 56 * 56 * 128 * 9 * 64, 32, False),
    ),
    "another call": ('f32[8]{0} custom-call(%0, %1), custom_call_target="Sharding"', ("f32[8]{0}", "f32[8]{0}"), None),
    "a sum": ("f32[8]{0} add(%0, %1)", ("f32[8]{0}", "f32[8]{0}"), None),
}  # fmt: skip


@pytest.mark.parametrize(("line", "operands", "wanted"), PRODUCTS.values(), ids=PRODUCTS)
def test_products(line, operands, wanted):
    inside = read_module(one_line(line, *operands)).computations["main"]
    assert product_of(inside["result"], inside) == wanted
