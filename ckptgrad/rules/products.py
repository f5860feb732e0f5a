"""Matrix products: `dot_general`, `ragged_dot_general`.

For C = A B the gradients are G B^T and A^T G (Goodfellow 6.5.6), here with any number of batch,
contracted and free axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.sharding import PartitionSpec as P

from ckptgrad.autodiff.cotangent import Entry
from ckptgrad.autodiff.rule import Application
from ckptgrad.axes.statements import Linked, Links
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.atoms import Array, Aval
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.value_types import explicit_sharding, partitions
from ckptgrad.rules.decorators import bprop, cast
from ckptgrad.rules.forms import is_wanted
from ckptgrad.target.platform import Form


def _dot_flops(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    (contracted_axes, _), _ = params["dimension_numbers"]
    return 2 * math.prod(outs[0].shape) * math.prod(ins[0].shape[i] for i in contracted_axes)


def _dot_axes(op: Operation) -> Links | None:
    """As in a sum over indices: pairs of batch axes and of contracted ones share a label, the latter are summed over."""
    if op.params.get("out_sharding") is not None:
        return None
    contract, batch = op.params["dimension_numbers"]
    operands: list[list[Any]] = [[("free", k, d) for d in range(len(a.aval.shape))] for k, a in enumerate(op.inputs)]
    for kind, pairs in (("summed", contract), ("batch", batch)):
        for i, (x, y) in enumerate(zip(*pairs, strict=True)):
            operands[0][x] = operands[1][y] = (kind, i)
    left = [free(len(own), contract[k], batch[k]) for k, own in enumerate(operands)]
    result = [("batch", i) for i in range(len(batch[0]))]
    result += [operands[k][d] for k in (0, 1) for d in left[k]]
    return Links(operands, [result], frozenset(("summed", i) for i in range(len(contract[0]))))


@bprop(p.dot_general_p, cost="product", flops=_dot_flops, axes=Linked(_dot_axes))
def dot_general(op: Application, g: Array) -> Sequence[Entry]:
    x, y = op.inputs
    (x_contract, y_contract), (x_batch, y_batch) = op.params["dimension_numbers"]
    x_free, y_free = free(x.ndim, x_contract, x_batch), free(y.ndim, y_contract, y_batch)
    # The output's axes: batch, then those free in x, then those free in y.
    first, last = len(x_batch), len(x_batch) + len(x_free)
    g_batch, g_x, g_y = tuple(range(first)), tuple(range(first, last)), tuple(range(last, g.ndim))

    def product(a: Array, b: Array, contract: Any, batch: Any, order: Any, aval: Aval) -> Array:
        options = {k: op.params[k] for k in ("precision", "preferred_element_type")}
        sharding = explicit_sharding(aval) or _replicated(a, b, aval.ndim)
        if sharding is not None:
            parts = partitions(sharding.spec)
            parts = [*parts, *[None] * (len(order) - len(parts))]
            sharding = sharding.update(spec=P(*(parts[i] for i in order)))
        result = contracted(a, b, contract, batch, out_sharding=sharding, **options)
        return cast(transposed(result, np.argsort(order)), aval.dtype)

    def towards_x() -> Array:
        # Its axes: batch, those free in x, then the contracted ones in y's order.
        order = [*x_batch, *x_free, *(x_contract[i] for i in np.argsort(y_contract))]
        return product(g, y, (g_y, y_free), (g_batch, y_batch), order, op.in_avals[0])

    def towards_y() -> Array:
        # Its axes: batch, then the contracted ones in x's order and those free in y, or these first.
        contracted_axes = [y_contract[i] for i in np.argsort(x_contract)]
        if is_wanted(Form.AS_MATRICES) or not x_batch:
            order = [*y_batch, *contracted_axes, *y_free]
            return product(x, g, (x_free, g_x), (x_batch, g_batch), order, op.in_avals[1])
        order = [*y_batch, *y_free, *contracted_axes]
        return product(g, x, (g_x, x_free), (g_batch, x_batch), order, op.in_avals[1])

    return towards_x, towards_y


def _replicated(a: Any, b: Any, ndim: int) -> Any:
    """The sharding of a value whose type names no mesh, beside operands that name one: whole on every device; else None."""
    sharding = explicit_sharding(jax.typeof(a)) or explicit_sharding(jax.typeof(b))
    return None if sharding is None else sharding.update(spec=P(*[None] * ndim))


def contracted(a: Any, b: Any, contract: Any, batch: Any, *, out_sharding: Any, **options: Any) -> Any:
    """`lax.dot_general`, with several neighbouring contracted axes merged into one.

    XLA copies an operand to merge them itself (on CPU: the whole activation, for each weight).  On TPU it copies one to
    merge them first (`gradients_as_matrices`).
    """
    (a_axes, b_axes), (a_batch, b_batch) = contract, batch
    form = Form.BATCHED_AS_MATRICES if a_batch else Form.AS_MATRICES
    merge = is_wanted(form) and len(a_axes) > 1 and out_sharding is None
    if merge and _neighbours(a_axes) and _neighbours(b_axes):
        a, b = _merge(a, a_axes), _merge(b, b_axes)
        a_batch, b_batch = _after_merging(a_batch, a_axes), _after_merging(b_batch, b_axes)
        a_axes, b_axes = (a_axes[0],), (b_axes[0],)
    return lax.dot_general(a, b, ((a_axes, b_axes), (a_batch, b_batch)), out_sharding=out_sharding, **options)


def _neighbours(axes: Sequence[int]) -> bool:
    return all(j == i + 1 for i, j in pairwise(axes))


def _merge(a: Any, axes: Sequence[int]) -> Any:
    shape = a.shape
    size = math.prod(shape[i] for i in axes)
    return lax.reshape(a, (*shape[: axes[0]], size, *shape[axes[-1] + 1 :]))


def _after_merging(others: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The places of other axes once these are one."""
    return tuple(i if i < axes[0] else i - len(axes) + 1 for i in others)


def free(ndim: int, contract: Sequence[int], batch: Sequence[int]) -> tuple[int, ...]:
    """The axes that are neither contracted nor batch axes."""
    return tuple(i for i in range(ndim) if i not in contract and i not in batch)


def transposed(x: Any, order: Any) -> Any:
    """Transpose, unless the order is the identity."""
    order = tuple(int(i) for i in order)
    return x if order == tuple(range(len(order))) else lax.transpose(x, order)


def _ragged_flops(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    numbers = params["ragged_dot_dimension_numbers"]
    (contracted_axes, _), _ = numbers.dot_dimension_numbers
    work = 2 * math.prod(outs[0].shape) * math.prod(ins[0].shape[i] for i in contracted_axes)
    # Of groups along a contracted axis, each sums its own part.
    return work // max(1, outs[0].shape[0]) if numbers.lhs_ragged_dimensions[0] in contracted_axes else work


@bprop("ragged_dot_general", cost="product", flops=_ragged_flops)
def ragged_dot_general(op: Application, g: Array) -> Sequence[Entry]:
    """A matrix product in groups (a mixture of experts).

    Groups of rows: x [batch, m, k] and y [group, batch, k, n] give [batch, m, n]; the cotangent of
    x is the same product with y transposed, that of y sums over the rows of each group.
    Groups of summands: x [batch, m, k] and y [batch, k, n] give [group, batch, m, n]; both
    cotangents are products in groups of rows.
    """
    numbers = op.params["ragged_dot_dimension_numbers"]
    (contract, _), (batch, _) = numbers.dot_dimension_numbers
    (ragged,) = numbers.lhs_ragged_dimensions
    if ragged in batch:
        raise NoDerivativeError(
            op.op.name, "its batch dimension is ragged, for which JAX has no derivative either", op.op.source
        )
    return (*(_groups_of_summands if ragged in contract else _groups_of_rows)(op, g), None)


def _grouped(op: Any, x: Any, y: Any, numbers: Any, order: Sequence[int]) -> Any:
    """A product in the groups of `op`, its axes brought from `order` to 0, 1, ..."""
    dims = lax.RaggedDotDimensionNumbers(*numbers)
    options = {k: op.params[k] for k in ("precision", "preferred_element_type", "group_offset")}
    return transposed(lax.ragged_dot_general(x, y, op.inputs[2], dims, **options), np.argsort(order))


def _groups_of_rows(op: Any, g: Any) -> tuple[Any, Any]:
    (x, y, _), numbers = op.inputs, op.params["ragged_dot_dimension_numbers"]
    (x_contract, y_contract), (x_batch, y_batch) = numbers.dot_dimension_numbers
    (ragged,), group = numbers.lhs_ragged_dimensions, numbers.rhs_group_dimensions
    x_free, y_free = free(x.ndim, x_contract, x_batch), free(y.ndim, y_contract, (*y_batch, *group))
    b, m = len(x_batch), len(x_free)
    g_batch, g_x, g_y = range(b), range(b, b + m), range(b + m, g.ndim)

    def left() -> Array:
        order = [*x_batch, *x_free, *(x_contract[i] for i in np.argsort(y_contract))]
        numbers = ((g_y, y_free), (g_batch, y_batch)), [b + list(x_free).index(ragged)], group
        return cast(_grouped(op, g, cast(y, g.dtype), numbers, order), x.dtype)

    def right() -> Array:
        order = [*group, *y_batch, *(y_contract[i] for i in np.argsort(x_contract)), *y_free]
        numbers = ((x_free, g_x), (x_batch, g_batch)), [ragged], []
        return cast(_grouped(op, cast(x, g.dtype), g, numbers, order), y.dtype)

    return left, right


def _groups_of_summands(op: Any, g: Any) -> tuple[Any, Any]:
    (x, y, _), numbers = op.inputs, op.params["ragged_dot_dimension_numbers"]
    (x_contract, y_contract), (x_batch, y_batch) = numbers.dot_dimension_numbers
    (ragged,) = numbers.lhs_ragged_dimensions
    x_free, y_free = free(x.ndim, x_contract, x_batch), free(y.ndim, y_contract, y_batch)
    b, m = len(x_batch), len(x_free)
    g_batch, g_x, g_y = range(1, 1 + b), range(1 + b, 1 + b + m), range(1 + b + m, g.ndim)

    def left() -> Array:
        order = [*x_batch, *(x_contract[i] for i in np.argsort(y_contract)), *x_free]
        rows = y_contract[list(x_contract).index(ragged)]
        return cast(_grouped(op, cast(y, g.dtype), g, (((y_free, g_y), (y_batch, g_batch)), [rows], [0]), order), x.dtype)

    def right() -> Array:
        order = [*y_batch, *(y_contract[i] for i in np.argsort(x_contract)), *y_free]
        return cast(_grouped(op, cast(x, g.dtype), g, (((x_free, g_x), (x_batch, g_batch)), [ragged], [0]), order), y.dtype)

    return left, right
