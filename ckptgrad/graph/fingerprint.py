"""Structural identity of operations: keys that are equal exactly when the computation is.

Used to recognise equal stages and to merge common subexpressions.  Keys are compared by value, not
by hash alone, so two different computations are never taken for equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ckptgrad.graph.graph import Atom, Constant, Operation, Variable

CUSTOM_JVP, CUSTOM_VJP = "custom_jvp_call", "custom_vjp_call"


def aval_key(aval: Any) -> tuple:
    """Shape, dtype, weak type and sharding of an abstract value."""
    return (
        type(aval).__name__,
        getattr(aval, "shape", None),
        str(getattr(aval, "dtype", None)),
        getattr(aval, "weak_type", False),
        str(getattr(aval, "sharding", None)),
    )


def atom_key(atom: Atom, number: Mapping[Variable, Any]) -> Any:
    """A constant by value, a variable by its number."""
    if isinstance(atom, Constant):
        return ("const", value_key(atom.value), aval_key(atom.aval))
    return number[atom]


def operation_key(op: Operation) -> tuple:
    """Primitive and parameters, without the variables."""
    params = op.params
    if op.name == CUSTOM_JVP:
        params = {**params, "jvp_jaxpr_fun": _jvp_rule_key(params, len(op.inputs) - params["num_consts"])}
    elif op.name == CUSTOM_VJP:
        params = {k: v for k, v in params.items() if k not in ("bwd", "fwd_jaxpr_thunk", "out_trees")} | {
            "bwd": _unwrapped(params["bwd"])
        }
    items = tuple((k, value_key(v)) for k, v in sorted(params.items()))
    return (op.name, items, str(op.context))


class _Identity:
    """Equal for the same object only; keeps it alive, so that its id is not given away again."""

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


MAX_RULE_DEPTH = 3

# The custom_jvp rules inside which a key is being made, outermost first; None: leave rules out.
_ENTERED: ContextVar[tuple | None] = ContextVar("entered", default=())


def _jvp_rule_key(params: Mapping[str, Any], inputs: int) -> Any:
    """The key of a custom_jvp rule, which may call the function that it belongs to (relu's does).

    A rule met again inside itself is known by its first level and by how far out it was entered.
    Rules that call ever new functions (sinc's do) are told apart by identity from some depth on.
    """
    entered = _ENTERED.get()
    if entered is None:
        return None
    try:
        rule = params["jvp_jaxpr_fun"].call_wrapped(*[False] * inputs)[:2]
    except Exception:  # The user's rule: it may refuse integers or symbolic zeros, and need not be called at all.
        return _Identity(params["jvp_jaxpr_fun"])
    first_level = _key_within(None, (params["call_jaxpr"], rule))
    if first_level in entered:
        return ("again", entered[::-1].index(first_level))
    if len(entered) == MAX_RULE_DEPTH:
        return _Identity(params["jvp_jaxpr_fun"])
    return _key_within((*entered, first_level), rule)


def _key_within(entered: tuple | None, value: Any) -> Any:
    token = _ENTERED.set(entered)
    try:
        return value_key(value)
    finally:
        _ENTERED.reset(token)


def value_key(value: Any) -> Any:
    """A hashable key of a static parameter."""
    if isinstance(value, ClosedJaxpr):
        return ("closed", jaxpr_key(value.jaxpr), tuple(value_key(c) for c in value.consts))
    if isinstance(value, Jaxpr):
        return ("jaxpr", jaxpr_key(value))
    if isinstance(value, (tuple, list)):
        return tuple(value_key(v) for v in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return ("array", value.shape, str(value.dtype), value.tobytes())
    if isinstance(value, float):
        return ("float", repr(value))
    if isinstance(value, dict):
        return tuple((k, value_key(v)) for k, v in sorted(value.items()))
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return value


def jaxpr_key(jaxpr: Jaxpr) -> tuple:
    """The structure of a jaxpr under a numbering of its variables."""
    number: dict[Any, int] = {}
    for v in (*jaxpr.constvars, *jaxpr.invars):
        number[v] = len(number)

    def key(atom: Any) -> Any:
        if isinstance(atom, Literal):
            return ("const", value_key(np.asarray(atom.val)), aval_key(atom.aval))
        return number[atom]

    lines = []
    for eqn in jaxpr.eqns:
        ins = tuple(key(a) for a in eqn.invars)
        op = Operation(eqn.primitive, [Constant(None, a.aval) for a in eqn.invars], (), eqn.params)
        for v in eqn.outvars:
            number[v] = len(number)
        lines.append((operation_key(op), ins, tuple(aval_key(v.aval) for v in eqn.outvars)))
    types = tuple(aval_key(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars))
    return (types, tuple(lines), tuple(key(a) for a in jaxpr.outvars))


def segment_key(operations: Sequence[Operation], inputs: Sequence[Variable], outputs: Sequence[Atom]) -> tuple:
    """The structure of a run of operations under a numbering of its variables."""
    number: dict[Variable, int] = {}
    for v in inputs:
        number[v] = len(number)
    lines = []
    for op in operations:
        ins = tuple(atom_key(a, number) for a in op.inputs)
        for v in op.outputs:
            number[v] = len(number)
        lines.append((operation_key(op), ins, tuple(aval_key(v.aval) for v in op.outputs)))
    return (
        tuple(aval_key(v.aval) for v in inputs),
        tuple(lines),
        tuple(atom_key(a, number) for a in outputs),
    )


def _unwrapped(wrapped: Any) -> Any:
    return getattr(wrapped, "f", wrapped)
