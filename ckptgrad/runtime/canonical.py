"""Convolutions in the order that XLA's fast code on CPU asks for: channels last.

XLA puts convolutions in this order by a pass that sees the entry computation only, not the calls in which stages are
kept apart; in any other order they run some ten times slower.  So stages do it themselves: operands are transposed,
the result is transposed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

from ckptgrad.autodiff.joint import Apply
from ckptgrad.chain.footprint import channels_last
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Operation
from ckptgrad.runtime.apart import on_cpu


def way_of_applying() -> Apply:
    """How stages run an operation on this platform."""
    return _apply_channels_last if on_cpu() else apply


def _apply_channels_last(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """Run one operation; a convolution with its operands transposed to channels last, if they are not."""
    if op.name != "conv_general_dilated":
        return apply(op, inputs)
    given = op.params["dimension_numbers"]
    wanted = channels_last(len(given.lhs_spec))
    if wanted == tuple(given):
        return apply(op, inputs)
    operands = [_reordered(x, a, b) for x, a, b in zip(inputs, given, wanted, strict=False)]
    numbers = lax.ConvDimensionNumbers(*wanted)
    (result,) = apply(op.with_params(dimension_numbers=numbers), operands)
    return [_reordered(result, wanted[2], given.out_spec)]


def _reordered(value: Any, given: Sequence[int], wanted: Sequence[int]) -> Any:
    """The axes that stand where `given` says, moved to where `wanted` says."""
    order = np.empty(len(given), int)
    order[list(wanted)] = given
    return lax.transpose(value, order) if list(order) != list(range(len(order))) else value
