"""Evaluation of a Graph with numbers or tracers, and pruning of what no output needs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from jax.extend.core import primitives

from ckptgrad.graph.atoms import Atom, Constant, Variable
from ckptgrad.graph.source import at_line_of

if TYPE_CHECKING:
    from ckptgrad.graph.graph import Graph, Operation


def apply(op: Operation, inputs: Sequence[Any]) -> list[Any]:
    """Run one operation; always a list, one entry an output."""
    bind_params = op.primitive.get_bind_params(op.params)
    subfuns: Sequence[Any] = ()
    if isinstance(bind_params, tuple):
        subfuns, bind_params = bind_params
    manager = getattr(op.context, "manager", None) or contextlib.nullcontext()
    with at_line_of(op.source_info), manager:
        out = op.primitive.bind(*subfuns, *inputs, **bind_params)
    return list(out) if op.primitive.multiple_results else [out]


def read(env: dict[Variable, Any], atom: Atom) -> Any:
    """The value of an atom under an environment."""
    return atom.value if isinstance(atom, Constant) else env[atom]


def like_aval(value: Any, aval: Any) -> Any:
    """An array of the aval's dtype, made weakly typed if the aval is, as JAX returns it."""
    if not getattr(aval, "weak_type", False) or getattr(value, "weak_type", False):
        return value
    return primitives.convert_element_type_p.bind(value, new_dtype=aval.dtype, weak_type=True, sharding=None)


def evaluate(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Evaluate the outputs of `graph`; values are dropped after their last use."""
    env: dict[Variable, Any] = dict(graph.constants)
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
    wanted: Collection[Atom],
    given: Collection[Variable] = (),
    effects: bool = True,
) -> list[Operation]:
    """The operations that `wanted` depends on, in order, taking `given` as known.

    Operations with effects are kept as well, unless `effects` is False.
    """
    live = {a for a in wanted if isinstance(a, Variable)}
    known = set(given)
    live -= known
    kept = []
    for op in reversed(operations):
        if (effects and op.effects) or any(o in live for o in op.outputs):
            kept.append(op)
            live.update(a for a in op.inputs if isinstance(a, Variable) and a not in known)
    return kept[::-1]
