"""Forward mode: tangents are pushed along the graph together with the values.

The rules are those of reverse mode.  Where a rule maps cotangents, the map of tangents is its
transpose; an elementwise rule is its own transpose, and a linear operation is its own derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from ckptgrad.autodiff.reach import reaching, wanted_variables
from ckptgrad.autodiff.reverse import is_differentiable
from ckptgrad.autodiff.rule import Application, Rule, force, is_zero, rule_for
from ckptgrad.autodiff.transpose import transposed
from ckptgrad.graph.evaluate import apply, last_uses, read
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.trace import filled


def push(
    graph: Graph, args: Sequence[Any], tangents: Sequence[Any], wanted: Sequence[bool] | None = None
) -> tuple[list[Any], list[Any]]:
    """Evaluate a graph with tangents.

    A tangent that nothing wanted depends on is not computed, so that what has no forward mode may stand where it
    does not matter, as in JAX.

    Args:
        graph: the graph.
        args: values of its inputs.
        tangents: of its inputs; None for zero (and for what has no tangent).
        wanted: for each output, whether its tangent is; all of them unless said otherwise.

    Returns:
        (outputs, tangents of the outputs), a tangent being None where it is zero; where it is not wanted it may be None.
    """
    moving = reaching(graph, wanted_variables(graph, [True] * len(graph.outputs) if wanted is None else wanted))
    env: dict[Variable, Any] = dict(graph.constants)
    env.update(zip(graph.inputs, args, strict=True))
    table: dict[Any, Any] = {v: t for v, t in zip(graph.inputs, tangents, strict=True) if t is not None}
    last = last_uses(graph)
    for position, op in enumerate(graph.operations):
        values = [read(env, a) for a in op.inputs]
        given = [table.get(a) for a in op.inputs]
        results, found = _push_one(op, values, given, [v in moving for v in op.outputs])
        env.update(zip(op.outputs, results, strict=True))
        table.update((v, t) for v, t in zip(op.outputs, found, strict=True) if t is not None)
        for v in (*op.inputs, *op.outputs):
            if isinstance(v, Variable) and last.get(v, -1) <= position:
                env.pop(v, None)
                table.pop(v, None)
    return [read(env, a) for a in graph.outputs], [table.get(a) for a in graph.outputs]


def _push_one(
    op: Operation, values: Sequence[Any], tangents: Sequence[Any], wanted: Sequence[bool]
) -> tuple[Sequence[Any], Sequence[Any]]:
    needs = [t is not None for t in tangents]
    if not any(needs) or is_zero(op) or not any(is_differentiable(v.aval) for v in op.outputs):
        return apply(op, values), [None] * len(op.outputs)
    rule = rule_for(op)
    if rule.push is not None:
        return rule.push(Application(op, values, (), needs, wanted=wanted), *tangents)
    results = apply(op, values)
    if not any(wanted):
        return results, [None] * len(op.outputs)
    return results, tangents_of(rule, Application(op, values, results, needs), tangents)


def tangents_of(rule: Rule, application: Application, tangents: Sequence[Any]) -> Sequence[Any]:
    """Tangents of the outputs of an operation whose rule has no pullback."""
    op = application.op
    if rule.tangent is not None:
        return rule.tangent(application, *tangents)
    if rule.partials is not None:
        return [_by_partials(rule.partials, application, tangents)]
    if rule.kind == "linear":
        pairs = zip(application.inputs, tangents, op.inputs, strict=True)
        found = apply(op, [_linear_input(x, t, a.aval) for x, t, a in pairs])
        return [t if is_differentiable(v.aval) else None for t, v in zip(found, op.outputs, strict=True)]
    return _by_transposition(rule, application, tangents)


def _linear_input(value: Any, tangent: Any, aval: Any) -> Any:
    if tangent is not None:
        return tangent
    return filled(aval) if is_differentiable(aval) else value


def _by_partials(partials: Sequence[Any], application: Application, tangents: Sequence[Any]) -> Any:
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


def _by_transposition(rule: Rule, application: Application, tangents: Sequence[Any]) -> list[Any]:
    """The transpose of a bprop rule, which is linear in the cotangents."""

    def entries(*cotangents):
        assert rule.bprop is not None
        sent = rule.bprop(application, *cotangents)
        return [None if t is None else force(e) for e, t in zip(sent, tangents, strict=True)]

    avals = application.out_avals
    return transposed(entries, avals, [is_differentiable(a) for a in avals], tangents)
