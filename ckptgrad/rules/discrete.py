"""Primitives through which no derivative flows: comparisons, integers, rounding, random bits.

Primitives that `jax.extend` does not list are named by string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend.core import primitives as p

from ckptgrad.axes import families as axes
from ckptgrad.axes.statements import Linked, Links
from ckptgrad.graph.graph import Operation
from ckptgrad.graph.random_keys import each_draws_alone
from ckptgrad.graph.work import elements
from ckptgrad.rules.decorators import zero


def _counted(op: Operation) -> Links | None:
    """The same along every axis but the one that it counts along."""
    if op.params.get("sharding") is not None:
        return None
    n = len(op.params["shape"])
    return Links([()] * len(op.inputs), [[None if d == op.params["dimension"] else d for d in range(n)]])


def _of_keys(op: Operation) -> Links | None:
    """Of several keys each makes its own numbers; the numbers of one key are made together.

    Not so with hardware generators: there those of all keys are made together, from the first.
    """
    if not each_draws_alone(op.inputs[0]):
        return None
    return _leading(op)


def _leading(op: Operation) -> Links:
    """The axes of the operand are the first of the result, or the other way around."""
    ranks = axes.rank(op.inputs[0]), axes.rank(op.outputs[0])
    labels = [[d if d < min(ranks) else None for d in range(n)] for n in ranks]
    return Links(labels[:1], labels[1:])


def _folded_in(op: Operation) -> Links | None:
    return axes.elementwise.links(op) if each_draws_alone(op.inputs[0]) else None


def _blocks(ins: Sequence[Any], outs: Sequence[Any], params: Mapping[str, Any]) -> int:
    """Threefry makes a block for each number: 20 rounds of a sum, a rotation and an exclusive or, and five times its key
    (Salmon et al. 2011). Other generators are taken to do as much."""
    return (20 * 3 + 5 * 3) * elements(ins, outs)


# comparisons and logic
zero(
    p.eq_p,
    p.ne_p,
    p.ge_p,
    p.gt_p,
    p.le_p,
    p.lt_p,
    p.eq_to_p,
    p.le_to_p,
    p.lt_to_p,
    cost="elementwise",
    axes=axes.elementwise,
)
zero(p.is_finite_p, cost="elementwise", axes=axes.elementwise)
zero(p.and_p, p.or_p, p.xor_p, cost="elementwise", axes=axes.elementwise)
zero(p.not_p, cost="view", axes=axes.elementwise)
zero(
    p.reduce_and_p, p.reduce_or_p, p.reduce_xor_p, p.argmax_p, p.argmin_p,
    cost="reduction", axes=axes.folded(lambda op: op.params["axes"]),
)  # fmt: skip

# integers
zero(p.shift_left_p, p.shift_right_arithmetic_p, p.shift_right_logical_p, cost="elementwise", axes=axes.elementwise)
zero(p.population_count_p, p.clz_p, "mulhi", cost="elementwise", axes=axes.elementwise)
zero(p.bitcast_convert_type_p, cost="view", axes=axes.elementwise)

# piecewise constant
zero(p.sign_p, p.floor_p, p.ceil_p, p.round_p, cost="elementwise", axes=axes.elementwise)

# no inputs, or none that matter
zero(p.iota_p, cost="view", axes=Linked(_counted, axes.sized("shape")))
zero(p.stop_gradient_p, cost="view", axes=axes.elementwise)
zero(p.empty2_p, "empty", p.create_token_p, p.after_all_p, p.axis_index_p, cost="elementwise")

# random bits and keys
zero(p.random_bits_p, cost="random", flops=_blocks, axes=Linked(_of_keys))
zero(p.threefry2x32_p, cost="random", flops=_blocks)
zero(p.rng_bit_generator_p, cost="heavy")
zero(p.random_split_p, cost="elementwise", axes=Linked(_of_keys))
zero("random_wrap", "random_unwrap", cost="elementwise", axes=Linked(_leading))
zero(p.random_seed_p, cost="elementwise", axes=axes.elementwise)
zero(p.random_fold_in_p, cost="elementwise", axes=Linked(_folded_in))
zero(p.rng_uniform_p, cost="elementwise")
zero("random_clone", "iota_2x32_shape", cost="elementwise")
zero("threefry4x32", "philox2x32", "philox4x32", cost="elementwise")

# pivots, and what a program does besides computing
zero("lu_pivots_to_permutation", cost="elementwise")
zero("debug_callback", "debug_print", cost="elementwise")
