"""Which values of a `shard_map`'s body are the same on all of its devices, where types do not say so.

What is made of such values alone is such a value too, if each device makes it by arithmetic of its own; so is what all of
them sum. What is not known to be is taken to differ.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ckptgrad.graph.graph import Atom, Graph, Operation, Variable, variables_of
from ckptgrad.rules.sharded import Mapped, own_axes

# What each device does by itself, with the same results for the same operands.
_ALONE = frozenset({
    "abs", "add", "and", "broadcast_in_dim", "ceil", "clamp", "convert_element_type", "copy", "div", "eq", "floor", "ge",
    "gt", "integer_pow", "is_finite", "le", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "reduce_and", "reduce_max",
    "reduce_min", "reduce_or", "reduce_sum", "rem", "reshape", "round", "select_n", "sign", "slice", "sqrt", "squeeze",
    "square", "stop_gradient", "sub", "xor",
})  # fmt: skip
# What gives all devices along its axes the same.
_TOGETHER = frozenset({"psum", "pmax", "pmin"})


def alike_values(op: Mapped, body: Graph, inputs: Collection[Variable]) -> set[Variable]:
    """The values of a body that are the same on all devices.

    Args:
        op: the `shard_map`.
        body: its body, or that of a loop in it.
        inputs: those of the body's inputs that are.
    """
    found = {*inputs}
    for o in body.operations:
        alone = o.name in _ALONE and found.issuperset(variables_of(o.inputs))
        if alone or (o.name in _TOGETHER and _is_of_all(op, o)):
            found.update(o.outputs)
    return found


def _is_of_all(op: Mapped, o: Operation) -> bool:
    return o.params.get("axis_index_groups") is None and own_axes(op) <= {*o.params["axes"]}


def alike_carries(op: Mapped, body: Graph, consts: Sequence[bool], init: Sequence[bool]) -> list[bool]:
    """Which values that a loop carries are the same on all devices, in every step: of those that are at first, those that
    stay so.

    Args:
        op: the `shard_map`.
        body: of the loop, its constants first and then what it carries.
        consts, init: whether constants and first values are.
    """
    carried = [*init]
    while True:
        known = [v for v, alike in zip(body.inputs, [*consts, *carried], strict=False) if alike]
        found = alike_values(op, body, known)
        stay = [a and is_alike(out, found) for a, out in zip(carried, body.outputs, strict=False)]
        if stay == carried:
            return carried
        carried = stay


def is_alike(a: Atom, found: Collection[Variable]) -> bool:
    """Whether an atom is among those values, or a number."""
    return not isinstance(a, Variable) or a in found
