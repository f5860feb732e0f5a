"""Cycles that a compiler writes beside its operations."""

from __future__ import annotations

import jax

from ckptgrad.bench.cycles import cycles_in, estimated_cycles

TEXT = """HloModule jit_step

%fused (p: f32[8]) -> f32[8] {
  ROOT %tanh = f32[8] tanh(%p)
}

%inner (q: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = f32[8] fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"3"}
}

%outer (q: (s32[], f32[8])) -> (s32[], f32[8]) {
  %b = f32[8] convolution(%x, %y), backend_config={"estimated_cycles":"20"}
  %w = (s32[], f32[8]) while(%t), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"4"}}
}

%c (q: (s32[], f32[8])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %u = (s32[], f32[8]) while(%t), condition=%c, body=%outer, backend_config={"known_trip_count":{"n":"10"}}
  %v = (s32[], f32[8]) while(%t), condition=%c, body=%inner
  ROOT %e = f32[8] fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"100"}
}
"""


def test_a_loop_counts_as_often_as_it_turns():
    assert cycles_in(TEXT) == 10 * (20 + 4 * 3) + 3 + 100


def test_a_compiler_that_gives_none():
    assert estimated_cycles(jax.jit(lambda x: x + 1).lower(1.0).compile()) is None
