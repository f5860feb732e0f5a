"""Bytes and seconds of transfers between a device's memory and the host's."""

from __future__ import annotations

import pytest

from ckptgrad.target.hlo.text import read_module
from ckptgrad.target.hlo.transfers import moved_bytes, transfer_seconds
from tests.target.hlo.programs import one_line

STACK, ENTRY = "f32[32,64,8]{2,1,0:T(8,128)S(5)}", "f32[1,64,8]{2,1,0}"
SIZE = 64 * 8 * 4


@pytest.mark.parametrize(
    ("line", "operands", "moved"),
    [
        (
            f"(({STACK}, {ENTRY}, s32[]), {STACK}, u32[]) dynamic-update-slice-start(%0, %1, %2)",
            [STACK, ENTRY, "s32[]"],
            SIZE,
        ),
        (f"(({STACK}, s32[]), {ENTRY}, u32[]) dynamic-slice-start(%0, %1)", [STACK, "s32[]"], SIZE),
        (
            f"(({STACK}, {ENTRY}, s32[]), {STACK}, u32[]) fusion-start(%0, %1, %2), kind=kCustom",
            [STACK, ENTRY, "s32[]"],
            SIZE,
        ),
        (f"{STACK} copy(%0)", ["f32[32,64,8]{2,1,0}"], 32 * SIZE),
        (f"{ENTRY} dynamic-slice(%0, %1)", [STACK, "s32[]"], SIZE),
        # Where they end, where nothing moves, and inside one memory.
        (f"{STACK} dynamic-update-slice-done(%0)", [STACK], 0),
        (f"({STACK}, {ENTRY}) tuple(%0, %1)", [STACK, ENTRY], 0),
        (f"{STACK} copy(%0)", [STACK], 0),
        (f"{ENTRY} copy(%0)", [ENTRY], 0),
    ],
)
def test_bytes_of_an_instruction(line, operands, moved):
    module = read_module(one_line(line, *operands))
    assert transfer_seconds(module, rate=2.0) == moved / 2
    inside = module.computations[module.entry]
    assert moved_bytes(next(i for i in inside.values() if i.is_root), inside) == moved
