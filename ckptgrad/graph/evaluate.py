# pyright: reportUnknownMemberType=false
"""Evaluation of a Graph with numbers or tracers, and pruning of what no output needs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from jax.extend.core import primitives

from ckptgrad.graph.atoms import Array, Atom, Aval, Constant, Variable
from ckptgrad.graph.source import at_line_of

if TYPE_CHECKING:
    from ckptgrad.graph.graph import Graph, Operation


def apply(op: Operation, inputs: Sequence[Array]) -> list[Array]:
    """Run one operation; always a list, one entry per output."""
    bind_params: Any = op.primitive.get_bind_params(op.params)
    subfuns: Sequence[Any] = ()
    if isinstance(bind_params, tuple):
        subfuns, bind_params = cast(tuple[Sequence[Any], Any], bind_params)
    manager = getattr(op.context, "manager", None) or contextlib.nullcontext()
    with at_line_of(op.source_info), manager:
        out = op.primitive.bind(*subfuns, *inputs, **bind_params)
    return list(out) if op.primitive.multiple_results else [out]


def read(env: Mapping[Variable, Array], atom: Atom) -> Array:
    """The value of an atom under an environment."""
    return atom.value if isinstance(atom, Constant) else env[atom]


def like_aval(value: Array, aval: Aval) -> Array:
    """An array of the aval's dtype, made weakly typed if the aval is, as JAX returns it."""
    if not getattr(aval, "weak_type", False) or getattr(value, "weak_type", False):
        return value
    return cast(Array, primitives.convert_element_type_p.bind(value, new_dtype=aval.dtype, weak_type=True, sharding=None))


def evaluate(graph: Graph, args: Sequence[Array]) -> list[Array]:
    """Evaluate the outputs of `graph`; values are dropped after their last use."""
    env: dict[Variable, Array] = dict(graph.constants)
    env.update(zip(graph.inputs, args, strict=True))
    last = last_uses(graph)
    for position, op in enumerate(graph.operations):
        results = apply(op, [read(env, a) for a in op.inputs])
        env.update(zip(op.outputs, results, strict=True))
        for v in (*op.inputs, *op.outputs):
            if isinstance(v, Variable) and last.get(v, -1) <= position:
                env.pop(v, None)
    return [read(env, a) for a in graph.outputs]


def last_uses(graph: Graph) -> dict[Variable, int]:
    """The position of the last operation that reads each variable (outputs: past the end)."""
    last: dict[Variable, int] = {}
    for position, op in enumerate(graph.operations):
        for a in op.inputs:
            if isinstance(a, Variable):
                last[a] = position
    for a in graph.outputs:
        if isinstance(a, Variable):
            last[a] = len(graph.operations)
    return last


def needed_operations(
    operations: Sequence[Operation],
    results: Collection[Atom],
    known: Collection[Variable] = (),
    effects: bool = True,
) -> list[Operation]:
    """The operations on which the results depend, in order, taking some variables as known.

    Operations with effects are kept as well, unless `effects` is False.
    """
    known = set(known)
    live = {a for a in results if isinstance(a, Variable)} - known
    kept: list[Operation] = []
    for op in reversed(operations):
        if (effects and op.effects) or any(o in live for o in op.outputs):
            kept.append(op)
            live.update(a for a in op.inputs if isinstance(a, Variable) and a not in known)
    return kept[::-1]
