"""Which arguments of a call are traced, and which reach the function as they are.

As with JAX's differentiation, Python numbers, strings, functions and other objects that are not differentiated stay what
they are, so that a function may branch on them.  Arrays are traced, so that a plan does not depend on their values.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import types
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import dtypes

from ckptgrad.errors import StaticArgumentError
from ckptgrad.graph.naming import argument_name, standing_for, title

# What is told by identity alone: its state is no part of a function's arguments.
_WHOLE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, jax.Array)


def is_traced(leaf: Any) -> bool:
    """Whether a leaf is an array, a tracer or a ShapeDtypeStruct."""
    if isinstance(leaf, np.ndarray):
        return dtypes.issubdtype(leaf.dtype, np.number) or leaf.dtype in (np.dtype(bool), dtypes.float0)
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))


@dataclass(frozen=True, eq=False)
class _Argument:
    """An argument with leaves that are not traced.

    Attributes:
        original: the argument itself.
        leaves: those that are not traced, by their positions among all `treedef.num_leaves`.
        identities: what tells these from others, as they were when the call was taken apart.
    """

    original: Any
    treedef: Any
    leaves: dict[int, Any]
    identities: list[Hashable]

    def traced_part(self, given: Any) -> Any:
        """An argument like this one, None in place of what is not traced."""
        if len(self.leaves) == self.treedef.num_leaves:
            return None
        leaves = jax.tree.leaves(given)
        return jax.tree.unflatten(self.treedef, [None if k in self.leaves else x for k, x in enumerate(leaves)])

    def filled(self, traced: Any) -> Any:
        """The whole argument for other values of what is traced."""
        if len(self.leaves) == self.treedef.num_leaves:
            return self.original
        rest = iter(jax.tree.leaves(traced))
        leaves = [self.leaves[k] if k in self.leaves else next(rest) for k in range(self.treedef.num_leaves)]
        return jax.tree.unflatten(self.treedef, leaves)

    def agrees(self, given: Any) -> bool:
        """Whether what is not traced is the same in another argument."""
        leaves, treedef = jax.tree.flatten(given)
        return treedef == self.treedef and [identity(leaves[k]) for k in self.leaves] == self.identities


@dataclass(frozen=True, eq=False)
class SplitCall:
    """A call as a function of its traced arguments alone.

    Attributes:
        fun: takes `args` and `kwargs` or others like them, and calls `original` with the rest filled in.
        args, kwargs: the call's, None in place of what is not traced.
    """

    original: Callable
    fun: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kept: Mapping[int | str, _Argument]

    def traced_parts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Other arguments, None in place of what is not traced.

        Raises:
            StaticArgumentError: what is not traced differs from that of the call that was split.
        """
        given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        for place, argument in self.kept.items():
            if place not in given or not argument.agrees(given[place]):
                name = argument_name(self.original, place, len(args), kwargs)
                raise StaticArgumentError(title(self.original), name, argument.original, given.get(place))
        parts = {p: self.kept[p].traced_part(x) if p in self.kept else x for p, x in given.items()}
        return tuple(parts[i] for i in range(len(args))), {k: parts[k] for k in kwargs}


def split_call(
    fun: Callable, args: Iterable[Any], kwargs: Mapping[str, Any], differentiated: Collection[int] = ()
) -> SplitCall:
    """Take a call apart into what is traced and what is not.

    Args:
        fun, args, kwargs: the call.
        differentiated: positions of arguments all of whose leaves are traced, whatever they are.
    """
    args, kwargs = tuple(args), dict(kwargs)
    places: list[tuple[int | str, Any]] = [(i, x) for i, x in enumerate(args) if i not in differentiated]
    kept = {place: found for place, x in [*places, *kwargs.items()] if (found := _argument(x)) is not None}
    if not kept:
        return SplitCall(fun, fun, args, kwargs, kept)

    def filled(*args: Any, **kwargs: Any) -> Any:
        whole = [kept[i].filled(x) if i in kept else x for i, x in enumerate(args)]
        return fun(*whole, **{k: kept[k].filled(x) if k in kept else x for k, x in kwargs.items()})

    split = SplitCall(fun, standing_for(fun, filled), args, kwargs, kept)
    parts = split.traced_parts(args, kwargs)
    return dataclasses.replace(split, args=parts[0], kwargs=parts[1])


def _argument(x: Any) -> _Argument | None:
    leaves, treedef = jax.tree.flatten(x)
    static = {k: leaf for k, leaf in enumerate(leaves) if not is_traced(leaf)}
    return _Argument(x, treedef, static, [identity(leaf) for leaf in static.values()]) if static else None


def identity(value: Any) -> Hashable:
    """What tells a value from others that a function may treat otherwise: True from 1, 1 from 1.0, 0.0 from -0.0.

    Containers and objects are told by what they hold now, so that a change in place is seen.  Objects are equal only to
    themselves, but for dataclasses without other state.
    """
    return _identity(value, {})


def _identity(value: Any, met: dict[int, int]) -> Hashable:
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return kind, value
    if kind in (float, complex):
        return kind, repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        plain = np.asarray(value)
        return kind, str(plain.dtype), plain.shape, _Same(value) if plain.dtype.hasobject else plain.tobytes()
    if isinstance(value, (enum.Enum, *_WHOLE)):
        return kind, _Same(value)
    if id(value) in met:  # it is told where it was met first
        return kind, met[id(value)]
    met[id(value)] = len(met)

    def told(values: Iterable[Any]) -> tuple[Hashable, ...]:
        return tuple(_identity(x, met) for x in values)

    state: tuple[Hashable, ...] = told(_state(value))
    if isinstance(value, (list, tuple, collections.deque)):
        state += told(value)
    elif isinstance(value, (set, frozenset)):
        state += (frozenset(told(value)),)
    elif isinstance(value, dict):
        state += told(value) + told(value.values())
    plain_data = kind in (list, tuple, set, frozenset, dict)
    if plain_data or (dataclasses.is_dataclass(value) and kind.__bases__ == (object,)):
        return kind, state
    return kind, _Same(value), state


class _Same:
    """Equal to itself about the same object, which it keeps: an address may be used again."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _state(value: Any) -> Iterable[Any]:
    """The names and values of an object's attributes."""
    slots = [name for base in type(value).__mro__ for name in _names(base.__dict__.get("__slots__", ()))]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    held.update(getattr(value, "__dict__", {}))
    return [*held, *held.values()]


def _names(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots
