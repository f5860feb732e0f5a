"""What is read of a compiled program's text."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.target.hlo.text import Array, read_module
from tests.target.hlo.programs import GPU, TPU, one_line


def test_computations_and_their_instructions():
    module = read_module(GPU)
    assert module.entry == "main"
    assert [*module.computations] == ["gemm", "fused_slice", "fused_update", "body", "condition", "main"]
    y = module.computations["body"]["y"]
    assert (y.opcode, y.operands, y.called, y.is_root) == ("fusion", ("x", "w.1"), ("gemm",), False)
    assert y.arrays == (Array("f32", (512, 256)),)
    assert y.op_name == "jit(scan)/while/body/dot_general"
    carry = module.computations["body"]["carry"]
    assert [a.shape for a in carry.arrays] == [(), (512, 256), (12, 256, 256), (12, 512)]
    assert carry.operand_text == "0"


def test_tiled_layouts_are_not_part_of_a_shape():
    module = read_module(TPU)
    assert module.computations["main"]["loop"].arrays == (Array("s32", ()), Array("bf16", (512, 256)))


@pytest.mark.parametrize("text", [GPU, TPU], ids=["stated", "counted by the condition"])
def test_trips(text):
    module = read_module(text)
    assert module.trips(module.computations["main"]["loop"]) == 12


def test_trips_that_nobody_knows_are_one():
    module = read_module(TPU.replace("direction=LT", "direction=NE"))
    assert module.trips(module.computations["main"]["loop"]) == 1


@pytest.mark.parametrize(
    ("dtype", "bits"), [("f32", 32), ("bf16", 16), ("pred", 8), ("c64", 64), ("s4", 4), ("f8e4m3fn", 8), ("token", 0)]
)
def test_bits_of_elements(dtype, bits):
    assert Array(dtype, (3, 4)).bytes == 12 * bits // 8


def test_what_is_not_a_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        read_module("HloModule empty")


def test_a_literal_with_brackets_is_one_operand_text():
    module = read_module(one_line('s32[2]{0} constant({(1), 2}), metadata={op_name="a/b"}'))
    assert module.computations["main"]["result"].operand_text == "{(1), 2}"


def test_a_program_of_this_machine():
    module = read_module(jax.jit(lambda x: jnp.tanh(x @ x)).lower(jnp.ones((8, 8))).compile().as_text())
    (root,) = (i for i in module.computations[module.entry].values() if i.is_root)
    assert root.arrays[-1] == Array("f32", (8, 8))
