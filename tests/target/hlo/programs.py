"""Compiled programs as XLA prints them, cut down to what is read of them."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
# Of XLA's GPU compiler: a loop of 12 trips over stacked weights, each trip a layer of which a row is kept.
GPU = (_HERE / "gpu.txt").read_text()
# Of XLA's TPU compiler: a loop of 12 trips, which only its condition tells, after a copy.
TPU = (_HERE / "tpu.txt").read_text()


def one_line(instruction: str, *operands: str) -> str:
    """A program of one instruction that reads operands of these types, as `%0`, `%1`, ..."""
    parameters = [f"  %{k} = {t} parameter({k})" for k, t in enumerate(operands)]
    return "\n".join(["ENTRY %main (a: f32[]) -> f32[] {", *parameters, f"  ROOT %result = {instruction}", "}"])
