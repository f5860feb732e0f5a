"""Operations in the form that XLA's fast code on CPU asks for.

Convolutions with channels last: XLA puts them in this order by a pass that sees the entry computation only, not the
calls in which stages are kept apart; in any other order they run some ten times slower.

Gradients of weights, which are products that contract the first axes of both operands, with the shorter side first:
with the longer side first they take up to 1.5 times as long (1024 x 256 from a batch of 2048: 10.9 ms against 7.3 ms
on two cores).  Bits may differ, as sums are blocked differently.

Operands are transposed, or swapped, and the result is transposed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

from ckptgrad.execution.isolated import on_cpu
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Operation
from ckptgrad.stage.partition import Apply
from ckptgrad.target.footprint import channels_last


def way_of_applying() -> Apply:
    """How stages run an operation on this platform."""
    return _apply_on_cpu if on_cpu() else apply


def _apply_on_cpu(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    if op.name == "conv_general_dilated":
        return _with_channels_last(op, inputs)
    if op.name == "dot_general":
        return _with_shorter_side_first(op, inputs)
    return apply(op, inputs)


def _with_channels_last(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """A convolution with its operands transposed to channels last, if they are not."""
    given = op.params["dimension_numbers"]
    wanted = channels_last(len(given.lhs_spec))
    if wanted == tuple(given):
        return apply(op, inputs)
    operands = [_reordered(x, a, b) for x, a, b in zip(inputs, given, wanted, strict=False)]
    numbers = lax.ConvDimensionNumbers(*wanted)
    (result,) = apply(op.with_params(dimension_numbers=numbers), operands)
    return [_reordered(result, wanted[2], given.out_spec)]


def _with_shorter_side_first(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """A product of matrices that contracts the first axes of both, swapped if its result is higher than wide."""
    (result,) = op.outputs
    plain = op.params["dimension_numbers"] == (((0,), (0,)), ((), ())) and op.params["out_sharding"] is None
    if not plain or result.aval.ndim != 2 or result.shape[0] <= result.shape[1]:
        return apply(op, inputs)
    precision = op.params["precision"]
    swapped = op.with_params(precision=precision[::-1] if isinstance(precision, tuple) else precision)
    (product,) = apply(swapped, inputs[::-1])
    # Without the barrier the compiler swaps the operands again to save the transposition.
    return [lax.transpose(lax.optimization_barrier(product), (1, 0))]


def _reordered(value: Any, given: Sequence[int], wanted: Sequence[int]) -> Any:
    """The axes that stand where `given` says, moved to where `wanted` says."""
    order = np.empty(len(given), int)
    order[list(wanted)] = given
    return lax.transpose(value, order) if list(order) != list(range(len(order))) else value
