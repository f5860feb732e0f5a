"""What a primitive costs, by class: what planner and estimates ask before they keep a value or compute it again.

This file defines the classes and what they mean. Each primitive's class is stated beside its derivative rule (`cost=`), or
where the primitive is defined if it has no rule.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from ckptgrad.graph.graph import Operation, Variable, variables_of
from ckptgrad.graph.spread import MOVING, is_collective, is_transfer

CostClass: TypeAlias = Literal[
    "product", "heavy", "random", "reduction", "gathering", "transcendental", "elementwise", "view"
]

# "product"         multiplies matrices or convolves: the arithmetic that machines are made for; worth keeping
# "heavy"           worth keeping too: loops, solvers, sorts, window sweeps, communication
# "random"          makes random bits: elementwise, but tens of operations for a number; worth keeping
# "reduction"       folds axes; cheap, but its result gets memory of its own
# "gathering"       collects or assembles numbers; cheap, but its result gets memory of its own
# "transcendental"  elementwise, but slow
# "elementwise"     cheap, fused by compilers with what reads it
# "view"            free to repeat: no arithmetic, usually no memory of its own once compiled
CLASSES: tuple[CostClass, ...] = get_args(CostClass)
# The classes that every compiler lowers alike.  How the others are lowered depends on the operation, its operands and the
# compiler: an estimate of what they hold is uncertain.
_MODELLED: frozenset[CostClass] = frozenset(("product", "reduction", "transcendental", "elementwise", "view"))

_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))

# By primitive. A class belongs to the primitive: it stays when the rule beside which it was stated is removed.
_STATED: dict[str, CostClass] = {}


def state_class(primitive: str, cost: CostClass) -> None:
    """State the class of a primitive; the last statement holds."""
    _STATED[primitive] = cost


def stated_class(primitive: str) -> CostClass | None:
    """The class that was stated for a primitive, if any was."""
    return _STATED.get(primitive)


def cost_class(primitive: str) -> CostClass:
    """The class of a primitive; one without a stated class counts as elementwise."""
    return _STATED.get(primitive, "elementwise")


def _class_of(op: Operation) -> CostClass | None:
    """The class of one operation: that of its primitive, but for products that sum over nothing.

    Outer products, as per-example gradients of weights are, become a multiplication in every compiler, which fuses it.
    """
    stated = _STATED.get(op.name)
    return "elementwise" if stated == "product" and op.name == "dot_general" and _sums_nothing(op) else stated


def _sums_nothing(op: Operation) -> bool:
    (contracted, _), _ = op.params["dimension_numbers"]
    return all(op.inputs[0].aval.shape[i] == 1 for i in contracted)


def is_product(op: Operation) -> bool:
    """Whether an operation multiplies matrices or convolves."""
    return _class_of(op) == "product"


def is_heavy(op: Operation) -> bool:
    """Whether an operation is worth keeping rather than repeating."""
    return _class_of(op) in ("product", "heavy", "random") or (op.name in MOVING and is_transfer(op))


def is_random(op: Operation) -> bool:
    """Whether an operation makes random bits."""
    return _class_of(op) == "random"


def is_reduction(op: Operation) -> bool:
    """Whether an operation folds axes."""
    return _class_of(op) == "reduction"


def is_materialised(op: Operation) -> bool:
    """Whether an operation's results get memory of their own even if read once."""
    return is_heavy(op) or _class_of(op) in ("reduction", "gathering")


def is_cheap(op: Operation) -> bool:
    """Whether an operation is known to be elementwise and fast, or a view, and neither sends anything nor has effects."""
    return _class_of(op) in ("elementwise", "view") and not op.effects and not is_collective(op)


def is_view(op: Operation) -> bool:
    """Whether an operation is free to repeat."""
    return _class_of(op) == "view"


def is_same_numbers(op: Operation) -> bool:
    """Whether it shows the numbers of its one operand in another shape."""
    if not is_view(op) or len(op.inputs) != 1 or len(op.outputs) != 1:
        return False
    return isinstance(op.inputs[0], Variable) and op.inputs[0].aval.dtype == op.outputs[0].aval.dtype


def mixes_numbers(op: Operation) -> bool:
    """Whether it sums numbers: by rights its results equal none of them."""
    return is_product(op) or op.name in ("reduce_sum", "cumsum")


def compares_values(op: Operation) -> bool:
    """Whether it compares two values, of which one may be a sum, with a mask, of the other."""
    return op.name in _COMPARISONS and len({*variables_of(op.inputs)}) > 1


def is_all_in_order(op: Operation) -> bool:
    """Whether it shows all numbers of its one operand in their order, in another shape."""
    if op.name not in ("reshape", "squeeze", "broadcast_in_dim", "slice") or not is_same_numbers(op):
        return False
    moves = op.params.get("dimensions") if op.name == "reshape" else op.params.get("strides")
    return moves is None and op.inputs[0].aval.size == op.outputs[0].aval.size


def is_transcendental(op: Operation) -> bool:
    """Whether an operation is elementwise, but slow."""
    return _class_of(op) == "transcendental"


def is_modelled(op: Operation) -> bool:
    """Whether it is of a class that every compiler lowers alike, so that what it holds can be estimated."""
    return cost_class(op.name) in _MODELLED
