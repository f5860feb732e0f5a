# pyright: reportUnknownMemberType=false
"""Structural identity of operations: keys that are equal only where the computation, and its derivatives, are.

Used to recognise equal stages and to merge common subexpressions.  Keys are compared by value, not by hash alone.  What
is not known to be equal is different: numbers of different types, distinct objects, rules that cannot be compared.

| a parameter | equal to another one where |
|---|---|
| numbers, strings, dtypes, classes | type and value are |
| NumPy arrays, literals | dtype, shape and bytes are |
| containers, named tuples, JAX's dataclasses | type and entries are |
| programs | types, operations in order, their contexts and effects, literals and constants are |
| custom rules | the programs that they trace to now are, those of the rules inside included |
| JAX's other values (shardings, tree structures, ...) | JAX says so |
| JAX arrays, tracers, functions, any other object | it is the same object |
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ckptgrad.compat import is_jaxs
from ckptgrad.graph.atoms import Aval, type_of
from ckptgrad.graph.custom_calls import RuleCall, rule_call
from ckptgrad.graph.graph import Atom, Constant, Operation, Variable

# A key: nested tuples of hashable values. Keys are compared and hashed, never read.
Key: TypeAlias = tuple[Any, ...]

# Packages whose values can be trusted to say whether they are equal; JAX's own caches trust them too.
_TRUSTED = frozenset({"jax", "jaxlib", "numpy", "ml_dtypes"})
_PLAIN = frozenset({type(None), bool, int, str, bytes})

_CONTAINERS = (tuple, list, set, frozenset, dict, np.ndarray, np.generic)

# Rules are followed into rules this deep.
MAX_RULE_DEPTH = 3


class _Known:
    """Keys that are known while a graph is cut.

    Attributes:
        rules: of JAX's own rules that were traced.
        operations: by the identity of what they are made of, which the operation beside each key holds alive.
        users_rules: how many rules of users were traced.
    """

    def __init__(self) -> None:
        self.rules: dict[Any, Any] = {}
        self.operations: dict[tuple[int, ...], tuple[Operation, Key]] = {}
        self.users_rules = 0


_KNOWN: ContextVar[_Known | None] = ContextVar("known keys", default=None)

# The rules inside which a key is being made, outermost first.
_ENTERED: ContextVar[tuple[Any, ...]] = ContextVar("entered", default=())


def aval_key(aval: Aval) -> Key:
    """The key of an abstract value: JAX compares all that is part of its type."""
    return (type_of(aval), aval)


def atom_key(atom: Atom, number: Mapping[Variable, Any]) -> Any:
    """The key of a constant is its value, that of a variable its number."""
    if isinstance(atom, Constant):
        return ("const", value_key(atom.value), aval_key(atom.aval))
    return number[atom]


def operation_key(op: Operation) -> Key:
    """The key of an operation: primitive, parameters, context and effects, without the variables."""
    known = _KNOWN.get()
    if known is None:
        return _key(op.primitive, op.params, op.context, op.effects)
    # What a jitted function calls is one equation however often that is called.
    place = (id(op.params), id(op.primitive), id(op.context), hash(op.effects))
    found, before = known.operations.get(place), known.users_rules
    if found is not None and found[0].effects == op.effects:
        return found[1]
    key = _key(op.primitive, op.params, op.context, op.effects)
    if known.users_rules == before:
        known.operations[place] = op, key
    return key


def _key(primitive: Any, params: Mapping[str, Any], context: Any, effects: Any) -> Key:
    call = rule_call(primitive.name, params)
    items = tuple((k, value_key(v)) for k, v in sorted(params.items()) if call is None or k not in call.parameters)
    caused = value_key(frozenset(effects)) if effects else None
    # Contexts are interned: equal ones are one object.
    return (primitive, items, None if call is None else _rule_key(call), context, caused)


class _Identity:
    """Equal for the same object only, while it lives; keeps nothing alive that can be referenced weakly."""

    __slots__ = ("_hash", "_of")

    def __init__(self, value: Any) -> None:
        self._hash = id(value)
        try:
            self._of: Callable[[], Any] = weakref.ref(value)
        except TypeError:
            self._of = lambda: value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Identity):
            return False
        mine = self._of()
        return mine is not None and mine is other._of()

    def __hash__(self) -> int:
        return self._hash


def _rule_key(call: RuleCall) -> Any:
    """The key of a custom rule: that of the programs to which it traces.

    A rule often calls the function to which it belongs.  Where a rule occurs inside itself, on the same types, its key is
    how many rules further out it was entered.  Rules inside rules beyond some depth (a rule may call ever new functions) are
    distinguished by identity, as are those that cannot be traced (a user's rule may refuse what it is never asked for).
    """
    identity, entered = call.identity(), _ENTERED.get()
    known = None if identity is None else (value_key(identity), tuple(aval_key(a) for a in call.in_avals))
    if known is not None and known in entered:
        return ("again", entered[::-1].index(known))
    keys = _KNOWN.get()
    if keys is None or known is None or entered or not is_jaxs(cast("list[Any]", identity)):
        if keys is not None:
            keys.users_rules += 1
        return _traced_key(call, known, entered)
    if known not in keys.rules:
        keys.rules[known] = _traced_key(call, known, entered)
    return keys.rules[known]


def _traced_key(call: RuleCall, known: Any, entered: tuple[Any, ...]) -> Any:
    programs = call.programs() if len(entered) < MAX_RULE_DEPTH else None
    if programs is None:
        return _Identity(call.anchor)
    with _entered(_Identity(call) if known is None else known):
        return value_key(programs)


@contextmanager
def each_rule_once() -> Generator[None]:
    """While it lasts, a rule of JAX's own is traced once for each types of its operands, however often it is applied.

    A user's rule is traced each time: nothing says that it comes out the same. So is what contains one; the key of any other
    operation is made once.
    """
    token = _KNOWN.set(_Known())
    try:
        yield
    finally:
        _KNOWN.reset(token)


@contextmanager
def _entered(rule: Any) -> Generator[None]:
    token = _ENTERED.set((*_ENTERED.get(), rule))
    try:
        yield
    finally:
        _ENTERED.reset(token)


def value_key(value: Any) -> Any:
    """A hashable key of a static parameter."""
    kind = type_of(value)
    if kind in _PLAIN or isinstance(value, type):
        return (kind, value)
    if kind is tuple:
        return (kind, *map(value_key, value))
    trusted = kind.__module__.partition(".")[0] in _TRUSTED
    if kind in (float, complex) or (trusted and isinstance(value, (float, complex))):
        # Also JAX's literals and NumPy's numbers, which are such: 0.0 equals -0.0, and a quotient by them does not.
        plain = float.__repr__(value) if isinstance(value, float) else complex.__repr__(value)
        return (kind, plain, str(getattr(value, "dtype", "")))
    if isinstance(value, (ClosedJaxpr, Jaxpr)):
        return (jaxpr_key(value), tuple(value_key(c) for c in getattr(value, "consts", ())))
    if not trusted and isinstance(value, _CONTAINERS) and getattr(cast(object, value), "__dict__", None):
        return _Identity(value)  # It has a state beside what it holds.
    if isinstance(value, (tuple, list)):
        return (kind, *map(value_key, cast(Iterable[Any], value)))
    if isinstance(value, (set, frozenset)):
        return (kind, frozenset(map(value_key, cast(Iterable[Any], value))))
    if isinstance(value, dict):
        items = cast(dict[Any, Any], value).items()
        return (kind, frozenset((value_key(k), value_key(v)) for k, v in items))
    if isinstance(value, (np.ndarray, np.generic)):
        array = cast("np.ndarray[Any, Any]", value)
        if not array.dtype.hasobject:
            return (kind, array.shape, array.dtype, array.tobytes())
    if isinstance(value, Enum):
        return _Identity(value)
    return _trusted_key(value) if trusted else _Identity(value)


def _trusted_key(value: Any) -> Any:
    """The key of a value of JAX or NumPy: its fields, or its own equality."""
    kind = type_of(value)
    if dataclasses.is_dataclass(value):
        return (kind, *(value_key(getattr(value, f.name)) for f in dataclasses.fields(value)))
    if isinstance(value, jax.tree_util.PyTreeDef):
        # Nodes compare what users put into them, for which 1 equals True.
        return (kind, value, str(value))
    if kind.__eq__ is object.__eq__ or kind.__hash__ is None:
        return _Identity(value)
    try:
        hash(value)
    except TypeError:  # A call of hijax under vmap, for one: it holds the user's containers.
        return _Identity(value)
    return (kind, value)


def jaxpr_key(jaxpr: Any) -> Key:
    """The key of a jaxpr: its structure under a numbering of its variables."""
    number: dict[Any, int] = {}
    for v in (*jaxpr.constvars, *jaxpr.invars):
        number[v] = len(number)

    def key(atom: Any) -> Any:
        if isinstance(atom, Literal):
            return ("const", _literal_key(atom.val), aval_key(atom.aval))
        return number[atom]

    lines: list[Key] = []
    for eqn in jaxpr.eqns:
        ins = tuple(key(a) for a in eqn.invars)
        for v in eqn.outvars:
            number[v] = len(number)
        line = _key(eqn.primitive, eqn.params, eqn.ctx, eqn.effects)
        lines.append((line, ins, tuple(aval_key(v.aval) for v in eqn.outvars)))
    types = tuple(aval_key(v.aval) for v in (*jaxpr.constvars, *jaxpr.invars))
    return (types, tuple(lines), tuple(key(a) for a in jaxpr.outvars))


def _literal_key(value: Any) -> Any:
    """The key of a literal: its bytes, whatever type holds them; its dtype is part of its abstract value."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, dtypes.extended):
        return _Identity(value)
    return value_key(np.asarray(value))


def segment_key(operations: Sequence[Operation], inputs: Sequence[Variable], outputs: Sequence[Atom]) -> Key:
    """The key of a run of operations: its structure under a numbering of its variables."""
    number: dict[Variable, int] = {}
    for v in inputs:
        number[v] = len(number)
    lines: list[Key] = []
    for op in operations:
        ins = tuple([atom_key(a, number) for a in op.inputs])
        for v in op.outputs:
            number[v] = len(number)
        lines.append((operation_key(op), ins, tuple([aval_key(v.aval) for v in op.outputs])))
    return (
        tuple([aval_key(v.aval) for v in inputs]),
        tuple(lines),
        tuple([atom_key(a, number) for a in outputs]),
    )
