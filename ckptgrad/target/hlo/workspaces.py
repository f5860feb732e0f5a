"""The scratch that kernels of libraries ask for, read from a compiled program."""

from __future__ import annotations

from ckptgrad.target.hlo.kernels import WORKSPACE
from ckptgrad.target.hlo.text import read_module


def largest_workspace(text: str) -> int | None:
    """Bytes of the largest scratch that a library's call returns beside its results; None where no such call is in it."""
    sizes = [
        instruction.arrays[-1].bytes
        for computation in read_module(text).computations.values()
        for instruction in computation.values()
        if instruction.opcode == "custom-call" and len(instruction.arrays) > 1 and instruction.arrays[-1].dtype in WORKSPACE
    ]
    return max(sizes, default=None)
