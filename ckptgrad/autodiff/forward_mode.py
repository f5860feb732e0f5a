"""Forward mode: tangents are pushed along the graph together with the values.

The rules are those of reverse mode.  Where a rule maps cotangents, the map of tangents is its
transpose; an elementwise rule is its own transpose, and a linear operation is its own derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax

from ckptgrad.autodiff.cotangent import force
from ckptgrad.autodiff.reach import reaching, variables_where
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import Application, Rule, is_zero, rule_for
from ckptgrad.autodiff.transpose import transposed
from ckptgrad.graph.atoms import Array, Atom, Aval
from ckptgrad.graph.evaluate import apply, last_uses, read
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.value_types import filled


def push_tangents(
    graph: Graph, args: Sequence[Array], tangents: Sequence[Array | None], used: Sequence[bool] | None = None
) -> tuple[list[Array], list[Array | None]]:
    """Evaluate a graph with tangents.

    A tangent on which no used one depends is not computed: as in JAX, what has no forward mode may stand where its
    tangents are not used.

    Args:
        graph: the graph.
        args: values of its inputs.
        tangents: of its inputs; None for zero (and for what has no tangent).
        used: for each output, whether its tangent is used; None: all.

    Returns:
        (outputs, tangents of the outputs); a tangent is None where it is zero, and may be None where it is not used.
    """
    moving = reaching(graph, variables_where(graph.outputs, [True] * len(graph.outputs) if used is None else used))
    env: dict[Variable, Array] = dict(graph.constants)
    env.update(zip(graph.inputs, args, strict=True))
    table: dict[Atom, Array] = {v: t for v, t in zip(graph.inputs, tangents, strict=True) if t is not None}
    last = last_uses(graph)
    for position, op in enumerate(graph.operations):
        values = [read(env, a) for a in op.inputs]
        results, pushed = _push_one(op, values, [table.get(a) for a in op.inputs], [v in moving for v in op.outputs])
        env.update(zip(op.outputs, results, strict=True))
        table.update((v, t) for v, t in zip(op.outputs, pushed, strict=True) if t is not None)
        for v in (*op.inputs, *op.outputs):
            if isinstance(v, Variable) and last.get(v, -1) <= position:
                env.pop(v, None)
                table.pop(v, None)
    return [read(env, a) for a in graph.outputs], [table.get(a) for a in graph.outputs]


def _push_one(
    op: Operation, values: Sequence[Array], tangents: Sequence[Array | None], used: Sequence[bool]
) -> tuple[Sequence[Array], Sequence[Array | None]]:
    needs = [t is not None for t in tangents]
    if not any(needs) or is_zero(op) or not any(is_differentiable(v.aval) for v in op.outputs):
        return apply(op, values), [None] * len(op.outputs)
    rule = rule_for(op)
    if rule.push is not None:
        return rule.push(Application(op, values, (), needs, used=used), *tangents)
    results = apply(op, values)
    if not any(used):
        return results, [None] * len(op.outputs)
    return results, tangents_of(rule, Application(op, values, results, needs), tangents)


def tangents_of(rule: Rule, application: Application, tangents: Sequence[Array | None]) -> Sequence[Array | None]:
    """Tangents of the outputs of an operation whose rule has no pullback."""
    op = application.op
    if rule.tangent is not None:
        return rule.tangent(application, *tangents)
    if rule.partials is not None:
        return [_by_partials(rule.partials, application, tangents)]
    if rule.kind == "linear":
        pairs = zip(application.inputs, tangents, op.inputs, strict=True)
        moved = apply(op, [_linear_input(x, t, a.aval) for x, t, a in pairs])
        return [t if is_differentiable(v.aval) else None for t, v in zip(moved, op.outputs, strict=True)]
    return _by_transposition(rule, application, tangents)


def _linear_input(value: Array, tangent: Array | None, aval: Aval) -> Array:
    if tangent is not None:
        return tangent
    return filled(aval) if is_differentiable(aval) else value


def _by_partials(
    partials: Sequence[Callable[..., Array] | None], application: Application, tangents: Sequence[Array | None]
) -> Array | None:
    """The sum over the arguments of tangent times partial derivative."""
    out = application.op.outputs[0].aval
    values = application.inputs
    total = None
    for partial, t in zip(partials, tangents, strict=True):
        if t is None or partial is None:
            continue
        term = partial(jnp.broadcast_to(t, out.shape), application.out, *values)
        term = term if term.dtype == out.dtype else lax.convert_element_type(term, out.dtype)
        total = term if total is None else jnp.add(total, term)
    return total


def _by_transposition(rule: Rule, application: Application, tangents: Sequence[Array | None]) -> list[Array | None]:
    """The transpose of a bprop rule, which is linear in the cotangents."""

    def cotangents_of(*cotangents: Array | None) -> list[Array | None]:
        assert rule.bprop is not None
        entries = rule.bprop(application, *cotangents)
        return [None if t is None else force(e) for e, t in zip(entries, tangents, strict=True)]

    avals = application.out_avals
    return transposed(cotangents_of, avals, [is_differentiable(a) for a in avals], tangents)
