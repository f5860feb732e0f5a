"""Matrix products: `dot_general`.

For C = A B the gradients are G B^T and A^T G (Goodfellow 6.5.6), here with any number of batch,
contracted and free axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from ckptgrad.rules.kinds import bprop, cast


@bprop(p.dot_general_p)
def dot_general(op, g):
    x, y = op.inputs
    (x_contract, y_contract), (x_batch, y_batch) = op.params["dimension_numbers"]
    x_free, y_free = free(x.ndim, x_contract, x_batch), free(y.ndim, y_contract, y_batch)
    # The output's axes: batch, then those free in x, then those free in y.
    first, last = len(x_batch), len(x_batch) + len(x_free)
    g_batch, g_x, g_y = tuple(range(first)), tuple(range(first, last)), tuple(range(last, g.ndim))

    def product(a, b, contract, batch):
        return contracted(a, b, contract, batch, op.params["precision"], op.params["preferred_element_type"])

    def towards_x():
        # Its axes: batch, those free in x, then the contracted ones in y's order.
        result = product(g, y, (g_y, y_free), (g_batch, y_batch))
        paired = [x_contract[i] for i in np.argsort(y_contract)]
        return cast(transposed(result, np.argsort([*x_batch, *x_free, *paired])), op.in_avals[0].dtype)

    def towards_y():
        # Its axes: batch, the contracted ones in x's order, then those free in y.
        result = product(x, g, (x_free, g_x), (x_batch, g_batch))
        paired = [y_contract[i] for i in np.argsort(x_contract)]
        return cast(transposed(result, np.argsort([*y_batch, *paired, *y_free])), op.in_avals[1].dtype)

    return towards_x, towards_y


def contracted(a: Any, b: Any, contract: Any, batch: Any, precision: Any, preferred: Any) -> Any:
    """`lax.dot_general`, with several neighbouring contracted axes merged into one.

    XLA copies an operand to merge them itself (on CPU: the whole activation, for each weight).
    """
    (a_axes, b_axes), (a_batch, b_batch) = contract, batch
    if len(a_axes) > 1 and not a_batch and _neighbours(a_axes) and _neighbours(b_axes):
        a, b = _merge(a, a_axes), _merge(b, b_axes)
        a_axes, b_axes = (a_axes[0],), (b_axes[0],)
    return lax.dot_general(
        a, b, ((a_axes, b_axes), (a_batch, b_batch)), precision=precision, preferred_element_type=preferred
    )


def _neighbours(axes: Sequence[int]) -> bool:
    return all(j == i + 1 for i, j in pairwise(axes))


def _merge(a: Any, axes: Sequence[int]) -> Any:
    shape = a.shape
    size = math.prod(shape[i] for i in axes)
    return lax.reshape(a, (*shape[: axes[0]], size, *shape[axes[-1] + 1 :]))


def free(ndim: int, contract: Sequence[int], batch: Sequence[int]) -> tuple[int, ...]:
    """The axes that are neither contracted nor batch axes."""
    return tuple(i for i in range(ndim) if i not in contract and i not in batch)


def transposed(x: Any, order: Any) -> Any:
    """Transpose, unless the order is the identity."""
    order = tuple(int(i) for i in order)
    return x if order == tuple(range(len(order))) else lax.transpose(x, order)
