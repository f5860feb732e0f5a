"""How much arithmetic the products of a compiled program do, and in which precision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ckptgrad.target.hlo.text import Array, Instruction

_CONTRACTED = re.compile(r"lhs_contracting_dim(?:s=\{|ensions\":\[)([^\]}]*)")
_WINDOW = re.compile(r"\bwindow=\{[^}]*\bsize=([\dx]+)")
_LABELS = re.compile(r"\bdim_labels=\w+_(\w+)->\w+")
_EXACT = re.compile(r"highest", re.IGNORECASE)
_GEMM = re.compile(r"__cublas\$")
_CONVOLUTION = re.compile(r"__cudnn\$conv(Forward|BackwardInput|BackwardFilter|BiasActivationForward)")


@dataclass(frozen=True)
class Product:
    """A product or convolution.

    Attributes:
        flops: multiplications and additions, two for one of each.
        bits: of the elements that are multiplied; of complex ones those of the real part.
        is_exact: whether they are multiplied in all their bits: float32 not rounded to fewer.
    """

    flops: int
    bits: int
    is_exact: bool


def product_of(instruction: Instruction, inside: Mapping[str, Instruction]) -> Product | None:
    """What an instruction multiplies; None where it is neither a product nor a convolution.

    Args:
        instruction: of a computation.
        inside: the instructions of that computation.
    """
    arrays = [inside[name].arrays[0] for name in instruction.operands[:2] if name in inside and inside[name].arrays]
    if len(arrays) < 2 or not instruction.arrays:
        return None
    flops = _flops(instruction, arrays)
    if flops is None:
        return None
    # Four real products make a complex one.
    is_complex = arrays[0].dtype.startswith("c")
    bits = arrays[0].bits // 2 if is_complex else arrays[0].bits
    return Product(flops * (4 if is_complex else 1), bits, bool(_EXACT.search(instruction.attributes)))


def _flops(instruction: Instruction, operands: Sequence[Array]) -> int | None:
    left, right = operands
    result, text = instruction.arrays[0], instruction.attributes
    if instruction.opcode == "dot" or (instruction.opcode == "custom-call" and _GEMM.search(text)):
        contracted = _CONTRACTED.search(text)
        dims = [int(d) for d in re.findall(r"\d+", contracted[1])] if contracted else []
        return 2 * result.size * prod(left.shape[d] for d in dims)
    if instruction.opcode == "convolution":
        return _convolution(text, result, right)
    kernel = _CONVOLUTION.search(text) if instruction.opcode == "custom-call" else None
    if kernel is None:
        return None
    # Of the three arrays of a convolution one is made from the others.
    output, weights = {"BackwardInput": (left, right), "BackwardFilter": (right, result)}.get(kernel[1], (result, right))
    return _convolution(text, output, weights)


def _convolution(text: str, output: Array, weights: Array) -> int:
    window, labels = _WINDOW.search(text), _LABELS.search(text)
    places = prod(map(int, window[1].split("x"))) if window else 1
    features = weights.shape[labels[1].index("i")] if labels else 1
    return 2 * output.size * places * features
