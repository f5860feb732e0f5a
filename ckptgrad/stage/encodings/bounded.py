"""Where a value may be inexact: at operations that keep a small error small.

An inexact value may be read again by sums, products, what moves elements, and functions of bounded slope, and by operations
on cotangents as a factor.  It may not be compared, chosen by, divided by or used as an index, and nothing may be read from
it whose slope has no bound (logarithms, roots, exponentials).  What is not listed here is not allowed.
"""

from __future__ import annotations

from collections.abc import Collection

import jax.numpy as jnp

from ckptgrad.graph.graph import Operation, Variable
from ckptgrad.stage.partition import Partition

_SUMS = frozenset(("add", "add_any", "sub", "neg", "reduce_sum", "cumsum"))
_PRODUCTS = frozenset(("mul", "square", "one_minus_square", "dot_general", "conv_general_dilated"))
_MOVES = frozenset(
    ("broadcast_in_dim", "reshape", "transpose", "squeeze", "rev", "slice", "pad", "concatenate", "copy", "copy_p", "name")
)
_SLOPES = frozenset(("tanh", "logistic", "erf", "sin", "cos", "atan", "abs", "max", "min"))
_ANYWHERE = _SUMS | _PRODUCTS | _MOVES | _SLOPES
# Operations on cotangents in which a forward value is a factor.
_FACTORS = frozenset(("mul", "dot_general", "conv_general_dilated"))


def may_be_inexact(v: Variable, part: Partition) -> bool:
    """Whether a kept value may be inexact: whatever the backward makes from it again, and reads, is near where it was."""
    joint, reached = part.joint, {v}
    for op in part.recomputed:
        if not reached.isdisjoint(op.inputs):
            if not _keeps_small(op, reached):
                return False
            reached.update(op.outputs)
    if not reached.isdisjoint(a for a in joint.gradients if a is not None):
        return False
    readers = (op for op in joint.backward_operations if not reached.isdisjoint(op.inputs))
    return all(op.name in _FACTORS for op in readers)


def _keeps_small(op: Operation, reached: Collection[Variable]) -> bool:
    if not all(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in op.outputs) or op.effects:
        return False
    match op.name:
        case "integer_pow":
            return op.params["y"] >= 0
        case "select_n":
            return op.inputs[0] not in reached
        case "convert_element_type":
            return True
        case "div":
            return op.inputs[1] not in reached
        case name:
            return name in _ANYWHERE
