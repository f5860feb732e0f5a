# pyright: reportUnknownMemberType=false
"""Reverse mode: the back-propagation algorithm (Goodfellow 6.5.6, algorithms 6.5 and 6.6).

The outer loop (`backpropagate`) sets up the table of gradients and asks for those of the targets;
the inner loop (`fill`) visits each operation once, in reverse topological order, and adds what its
bprop rule sends along each edge.  Dynamic programming: every edge once, so O(edges), not O(paths).
Popping a gradient from the table when its operation is visited frees it.

The loops run on numbers or on tracers: symbol-to-number, or under `trace` symbol-to-symbol.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.autodiff.cotangent import Entry, Part, accumulate, computed, force, whole
from ckptgrad.autodiff.rule import Application, Pull, is_zero, rule_for
from ckptgrad.errors import NoDerivativeError
from ckptgrad.graph.atoms import Array, Atom, Aval
from ckptgrad.graph.evaluate import apply, read
from ckptgrad.graph.graph import Graph, Operation, Variable
from ckptgrad.graph.source import at_line_of
from ckptgrad.graph.value_types import as_cotangent, cotangent_type, explicit_sharding, filled, is_manual


@dataclass
class Tape:
    """A forward evaluation that reverse mode can go back along.

    Attributes:
        env: the value of every variable.
        pullbacks: for operations whose rule replaces the forward evaluation, its closure.
        active: the variables that depend on a differentiated input.
        linear: the graph is linear in the differentiated inputs, whose values are not known.
        edges_visited, rule_calls: how much work going back has been, for tests of its complexity.
    """

    graph: Graph
    env: dict[Variable, Array]
    active: set[Variable]
    linear: bool = False
    pullbacks: dict[Operation, Pull] = field(default_factory=dict[Operation, Pull])
    edges_visited: int = 0
    rule_calls: int = 0


def is_differentiable(aval: Aval) -> bool:
    """Whether an abstract value has a tangent space (floats and complex numbers).

    Raises:
        NoDerivativeError: it is of a user's own dtype, and its tangents have another.
    """
    dtype = getattr(aval, "dtype", None)
    if dtype is None or jnp.issubdtype(dtype, jnp.inexact):
        return dtype is not None
    if jnp.issubdtype(dtype, dtypes.extended) and aval.to_tangent_aval().dtype != dtypes.float0:
        raise NoDerivativeError(str(dtype), "the tangents of this extended dtype have another dtype")
    return False


def active_variables(graph: Graph, wrt: Collection[Variable]) -> set[Variable]:
    """The variables through which a derivative with respect to `wrt` can flow."""
    active = {v for v in wrt if is_differentiable(v.aval)}
    for op in graph.operations:
        if not is_zero(op) and any(a in active for a in op.inputs):
            active.update(v for v in op.outputs if is_differentiable(v.aval))
    return active


def forward(
    graph: Graph,
    args: Sequence[Array],
    wrt: Collection[Variable],
    *,
    linear: bool = False,
    planned: bool = False,
    towards: Collection[Variable] | None = None,
) -> Tape:
    """Evaluate `graph` keeping what the reverse sweep may read.

    Args:
        graph: the graph.
        args: values of its inputs.
        wrt: the inputs to differentiate with respect to.
        linear: the graph is linear in `wrt`: what depends on them is not evaluated, and their
            values may be None.
        planned: how loops are reversed is left open (see `Application.planned`).
        towards: the variables from which the seeds are reached, if known: no other gets a cotangent.
    """
    env: dict[Variable, Array] = dict(graph.constants)
    env.update(zip(graph.inputs, args, strict=True))
    if linear:
        env.update((v, _unread(v)) for v in wrt)
    active = active_variables(graph, wrt)
    tape = Tape(graph, env, active if towards is None else active.intersection(towards), linear)
    for op in graph.operations:
        values = [read(env, a) for a in op.inputs]
        needs = [a in tape.active for a in op.inputs]
        rule = rule_for(op) if any(needs) and any(v in tape.active for v in op.outputs) else None
        if rule is not None and rule.pullback is not None:
            used = None if towards is None else [v in towards for v in op.outputs]
            results, tape.pullbacks[op] = rule.pullback(Application(op, values, (), needs, linear, planned, used))
        elif rule is not None and linear and all(v in tape.active for v in op.outputs):
            results = [_unread(v) for v in op.outputs]
        else:
            results = apply(op, values)
        env.update(zip(op.outputs, results, strict=True))
    return tape


def _unread(variable: Variable) -> Array:
    """Zeros that take no memory, in place of a value that a linear rule does not read."""
    if is_manual(variable.aval):
        return filled(variable.aval)  # An operation whose result is unused still asks for the right type.
    return np.broadcast_to(np.zeros((), variable.dtype), variable.shape)


def backpropagate(tape: Tape, cotangents: Mapping[Variable, Array], wrt: Sequence[Variable]) -> list[Array | None]:
    """The gradients of `wrt` given cotangents of some variables.

    Args:
        tape: the forward evaluation.
        cotangents: the seeds, one per output variable.
        wrt: the targets.

    Returns:
        A gradient for each target; None where nothing flowed back.
    """
    table: dict[Atom, Array] = {v: jnp.asarray(g, v.dtype) for v, g in cotangents.items()}
    fill(tape, table, keep=frozenset(wrt))
    return [whole(table.get(v)) for v in wrt]


def fill(tape: Tape, table: dict[Atom, Array], keep: Collection[Variable]) -> None:
    """Fill the table of gradients for every active variable, each edge visited once."""
    for op in reversed(tape.graph.operations):
        gradients = [whole(table.get(v) if v in keep else table.pop(v, None)) for v in op.outputs]
        if all(g is None for g in gradients):
            continue
        needs = [a in tape.active for a in op.inputs]
        if not any(needs) or is_zero(op):
            continue
        with at_line_of(op.source_info):
            for atom, needed, entry in zip(op.inputs, needs, _entries(tape, op, needs, gradients), strict=True):
                if not needed:
                    continue
                tape.edges_visited += 1
                contribution = computed(entry)
                if contribution is not None:
                    accumulate(table, atom, _placed(contribution, atom.aval))


def _placed(contribution: Array | Part, aval: Aval) -> Array | Part:
    """The contribution, sharded and varying as its value is, where that is part of the type."""
    if is_manual(aval):
        contribution = as_cotangent(force(contribution), aval)
    if explicit_sharding(aval) is None:
        return contribution
    return jax.sharding.reshard(force(contribution), explicit_sharding(cotangent_type(aval)))


def _entries(tape: Tape, op: Operation, needs: Sequence[bool], gradients: Sequence[Array | None]) -> Sequence[Entry]:
    tape.rule_calls += 1
    pull = tape.pullbacks.get(op)
    if pull is not None:
        return pull(*gradients)
    rule = rule_for(op)
    assert rule.bprop is not None
    values = [read(tape.env, a) for a in op.inputs]
    results = [tape.env[v] for v in op.outputs]
    return rule.bprop(Application(op, values, results, needs, tape.linear), *gradients)
