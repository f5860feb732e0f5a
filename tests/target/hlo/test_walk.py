"""The seconds of a program as the sum of those of its instructions."""

from __future__ import annotations

import pytest

from ckptgrad.target.hlo.text import read_module
from ckptgrad.target.hlo.walk import total_seconds

PROGRAM = """
%step (s: f32[8]) -> f32[8] {
  %s = f32[8] parameter(0)
  ROOT %sine = f32[8] sine(%s), metadata={op_name="jit(f)/forward_0/sin"}
}

%holds (s: f32[8]) -> pred[] {
  %s = f32[8] parameter(0)
  ROOT %true = pred[] constant(true)
}

%short (s: f32[8]) -> f32[8] {
  ROOT %s = f32[8] parameter(0)
}

%long (s: f32[8]) -> f32[8] {
  %s = f32[8] parameter(0)
  %one = f32[8] cosine(%s)
  ROOT %two = f32[8] cosine(%one)
}

%inner (s: f32[8]) -> f32[8] {
  %s = f32[8] parameter(0)
  ROOT %exp = f32[8] exponential(%s), metadata={op_name="jit(f)/forward_1/exp"}
}

ENTRY %main (x: f32[8], k: s32[]) -> f32[8] {
  %x = f32[8] parameter(0)
  %k = s32[] parameter(1)
  %loop = f32[8] while(%x), condition=%holds, body=%step, backend_config={"known_trip_count":{"n":"5"}}
  %branch = f32[8] conditional(%k, %loop, %loop), branch_computations={%short, %long}
  ROOT %call = f32[8] call(%branch), to_apply=%inner
}
"""


def seconds(**prices):
    return lambda instruction, inside: prices.get(instruction.opcode, 0.0)


@pytest.mark.parametrize(
    ("prices", "total"),
    [
        ({"sine": 1.0}, 5.0),  # a loop, as often as it runs
        ({"cosine": 1.0}, 2.0),  # branches, the longest of them
        ({"exponential": 1.0}, 1.0),  # a call, once
        ({"while": 9.0, "conditional": 9.0, "call": 9.0}, 0.0),  # what hands over takes no time itself
        ({"sine": 1.0, "cosine": 10.0, "exponential": 100.0}, 125.0),
    ],
)
def test_programs_inside(prices, total):
    assert total_seconds(read_module(PROGRAM), seconds(**prices)) == total


def test_a_scope_can_be_left_out():
    prices = seconds(sine=1.0, exponential=100.0)
    assert total_seconds(read_module(PROGRAM), prices, without="forward_1") == 5.0
    assert total_seconds(read_module(PROGRAM), prices, without="forward_0") == 100.0


def test_a_price_sees_what_stands_beside_it():
    def price(instruction, inside):
        return float(instruction.opcode == "cosine" and "s" in inside)

    assert total_seconds(read_module(PROGRAM), price) == 2.0
