"""Products and collectives of a compiled program, counted by hand."""

from __future__ import annotations

from ckptgrad.target.hlo.counts import collective_counts, executed, product_flops
from ckptgrad.target.hlo.text import read_module

PROGRAM = """
%gathered (w: bf16[1,8]) -> bf16[8,8] {
  %w = bf16[1,8] parameter(0)
  ROOT %gather = bf16[8,8] all-gather(%w), dimensions={0}
}

%layer (x: bf16[8,8], w: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8] parameter(0)
  %w = bf16[8,8] parameter(1)
  %carried = bf16[8,8] all-reduce(%w), channel_id=3, to_apply=%sum
  ROOT %dot = bf16[8,8] dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%step (x: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8] parameter(0)
  %start = (bf16[1,8], bf16[8,8]) async-start(%x), calls=%gathered
  %done = bf16[8,8] async-done(%start)
  %one = bf16[8,8] fusion(%x, %done), kind=kOutput, calls=%layer
  ROOT %two = bf16[8,8] fusion(%one, %done), kind=kOutput, calls=%layer
}

%holds (x: bf16[8,8]) -> pred[] {
  %x = bf16[8,8] parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (x: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[8,8] parameter(0)
  %loop = bf16[8,8] while(%x), condition=%holds, body=%step, backend_config={"known_trip_count":{"n":"5"}}
  %starts = bf16[8,8] all-reduce-start(%loop), channel_id=3, to_apply=%sum
  %ends = bf16[8,8] all-reduce-done(%starts)
  ROOT %dot.1 = bf16[8,8] dot(%ends, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_products_count_wherever_they_were_fused_and_in_every_trip():
    assert product_flops(read_module(PROGRAM)) == (2 * 5 + 1) * 2 * 8 * 8 * 8


def test_a_collective_counts_once_per_trip():
    """A pair of start and done is one; so is one that two fusions carry on."""
    assert collective_counts(read_module(PROGRAM)) == {"all-gather": 5, "all-reduce": 5 + 1}


def test_what_runs_is_told_with_how_often_and_where():
    dots = [e for e in executed(read_module(PROGRAM)) if e.instruction.opcode == "dot"]
    assert [(e.times, e.host) for e in dots] == [(5, "step"), (5, "step"), (1, "main")]
