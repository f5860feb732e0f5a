# pyright: reportUnknownMemberType=false
"""Operations in the forms that are fast where a program runs, as the target's platform lists them.

`Form.CHANNELS_LAST`, for convolutions on CPU: XLA puts them in this order by a pass that sees the entry computation only,
not the calls in which stages are isolated; in any other order they run about ten times slower.

`Form.SHORTER_SIDE_FIRST`, for gradients of weights, and of keys and values of attention, on CPU, which are products that
contract the first axes of both operands: with the longer side first they take up to 1.5 times as long (1024 x 256 from a
batch of 2048: 10.9 ms against 7.3 ms on two cores), many at once twice as long (48 of 1024 x 64 from 1024: 0.28 s of CPU
time against 0.14 s).  Bits may differ, as sums are blocked differently.

`Form.BARRIERS_AS_CALLS`, on CPU, where XLA drops barriers: what passes a call that is not inlined is one array, which no
fusion behind it makes again, and rounds otherwise.

`Form.GATHERED_FIRST`, for products over several TPUs: an operand that one product alone needs whole XLA passes round in
parts, in a loop of small products with room of its own.  Gathered first, a transformer block of width 512 with cut
parameters, over 16 of a v5e, takes 2.1 ms forward and backward, and 4.8 ms in such loops.

Operands are transposed, or swapped, and the result is transposed back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from jax import lax

from ckptgrad.execution.isolated import isolated
from ckptgrad.execution.lying import constrained
from ckptgrad.graph.evaluate import apply
from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.spread import gathered_operands
from ckptgrad.graph.traits import cost_class
from ckptgrad.rules.products import free
from ckptgrad.stage.partition import Apply
from ckptgrad.target.footprint import channels_last
from ckptgrad.target.platform import Form, Isolation

# Products with a shorter side stay as they are written: there is no time to win, and XLA's CPU compiler of jaxlib 0.10 ends
# the process where it transposes the result of many products with sides of two or three.
SHORT_SIDE = 16
# The bits of exponents and mantissas.
_BITS = {"bfloat16": (8, 7), "float16": (5, 10), "float32": (8, 23), "float64": (11, 52)}


def apply_in_forms(forms: Collection[Form]) -> Apply:
    """How the operations of a stage run: in these forms, where they are for them."""
    by_name = {name: rewritten for form, (name, rewritten) in _FORMS.items() if form in forms}

    def apply_operation(op: Operation, inputs: Sequence[Any]) -> list[Any]:
        return by_name.get(op.name, apply)(op, inputs)

    return apply_operation if by_name else apply


def rounding(apply: Apply, operations: Sequence[Operation], kept: Collection[Variable]) -> Apply:
    """How the operations of a forward run that keeps some results: those of products are rounded to the precision that they
    have, unless a view reads them.

    That changes none of them. XLA's TPU compiler takes what reads the result of a product into the fusion of that product,
    and writes both where both are needed; what is rounded is written alone, and the fusion that reads it does the rest, as
    in what `jax.checkpoint` keeps. What a view reads is left as it is: to round that, too, gained nothing for experts.
    """
    viewed = {v for op in operations if cost_class(op.name) == "view" for v in variables_of(op.inputs)}
    rounded = {*kept} - viewed

    def apply_operation(op: Operation, inputs: Sequence[Any]) -> list[Any]:
        results = apply(op, inputs)
        if cost_class(op.name) != "product":
            return results
        return [_rounded(x) if v in rounded else x for v, x in zip(op.outputs, results, strict=True)]

    return apply_operation


def _rounded(value: Any) -> Any:
    """A value in the precision of its type, where that rounds as IEEE numbers do: narrower types have other largest ones."""
    bits = _BITS.get(str(value.dtype))
    return value if bits is None else lax.reduce_precision(value, *bits)


def _with_channels_last(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """A convolution with its operands transposed to channels last, if they are not."""
    written = op.params["dimension_numbers"]
    last = channels_last(len(written.lhs_spec))
    if last == tuple(written):
        return apply(op, inputs)
    operands = [_reordered(x, a, b) for x, a, b in zip(inputs, written, last, strict=False)]
    numbers = lax.ConvDimensionNumbers(*last)
    (result,) = apply(op.with_params(dimension_numbers=numbers), operands)
    return [_reordered(result, last[2], written.out_spec)]


def _with_shorter_side_first(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """A product of matrices, or of many of them, that contracts the first axes of both, swapped if its result is higher
    than wide and no side is short."""
    (result,) = op.outputs
    is_sided = isinstance(op.params["precision"], lax.DotAlgorithm)
    if not _contracts_first_axes(op) or is_sided or op.params["out_sharding"] is not None:
        return apply(op, inputs)
    *batch, rows, columns = range(result.aval.ndim)
    ((contracted,), _), _ = op.params["dimension_numbers"]
    if min(result.shape[rows], result.shape[columns], op.inputs[0].aval.shape[contracted]) < SHORT_SIDE:
        return apply(op, inputs)
    if result.shape[rows] <= result.shape[columns]:
        (product,) = apply(op, inputs)
        # Of many the compiler swaps the operands to save a transposition that follows.
        return [lax.optimization_barrier(product) if batch else product]
    (product,) = apply(_swapped(op), inputs[::-1])
    # Without the barrier the compiler swaps the operands again to save the transposition.
    return [lax.transpose(lax.optimization_barrier(product), (*batch, columns, rows))]


def _as_call(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """The operands of a barrier, through a call."""
    return _passed(list(inputs))


def _same(values: list[Any]) -> list[Any]:
    return values


_passed = isolated(_same, Isolation.CALLS)


def _gathered_first(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """A product of operands that are gathered, as far as it needs them so."""
    whole = gathered_operands(op, shared=True)
    return apply(op, [constrained(x, whole[k]) if k in whole else x for k, x in enumerate(inputs)])


def _contracts_first_axes(op: Operation) -> bool:
    """Whether it contracts one axis of two matrices, or of pairs of many, in each the one before the axis that stays."""
    contract, batch = op.params["dimension_numbers"]
    for operand, axes, pairs in zip(op.inputs, contract, batch, strict=True):
        stays = free(operand.aval.ndim, axes, pairs)
        if len(axes) != 1 or len(stays) != 1 or axes[0] > stays[0]:
            return False
    return True


def _swapped(op: Operation) -> Operation:
    """The product with its operands in the other order; its result is transposed."""
    contract, batch = op.params["dimension_numbers"]
    precision = op.params["precision"]
    return op.with_params(
        dimension_numbers=(contract[::-1], batch[::-1]),
        precision=precision[::-1] if isinstance(precision, tuple) else precision,
    )


def _reordered(value: Any, places: Sequence[int], others: Sequence[int]) -> Any:
    """The axes that stand at `places`, moved to the `others`."""
    order = np.empty(len(places), int)
    order[list(others)] = places
    return lax.transpose(value, order) if list(order) != list(range(len(order))) else value


# For each form the primitive that it is for, and how that runs in it.
_FORMS: dict[Form, tuple[str, Apply]] = {
    Form.CHANNELS_LAST: ("conv_general_dilated", _with_channels_last),
    Form.SHORTER_SIDE_FIRST: ("dot_general", _with_shorter_side_first),
    Form.BARRIERS_AS_CALLS: ("optimization_barrier", _as_call),
    Form.GATHERED_FIRST: ("dot_general", _gathered_first),
}
