# pyright: reportUnknownMemberType=false
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
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from ckptgrad.errors import StaticArgumentError
from ckptgrad.graph.atoms import type_of
from ckptgrad.graph.naming import argument_name, standing_for, title
from ckptgrad.graph.state import losing_nothing

# What is compared by identity alone: its state is not part of a function's arguments.
_WHOLE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, jax.Array, jax.Ref)


def is_traced(leaf: Any) -> bool:
    """Whether a leaf is an array, a tracer or a ShapeDtypeStruct."""
    if isinstance(leaf, np.ndarray):
        leaf = cast("np.ndarray[Any, Any]", leaf)
        return jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype in (np.dtype(bool), dtypes.float0)
    return isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct))


@dataclass(frozen=True, eq=False)
class _Argument:
    """An argument with leaves that are not traced.

    Attributes:
        whole: the argument itself, if no leaf of it is traced.
        leaves: those that are not traced, by their positions among all `treedef.num_leaves`.
    """

    whole: Any
    treedef: Any
    leaves: dict[int, Any]

    @property
    def is_whole(self) -> bool:
        return len(self.leaves) == self.treedef.num_leaves

    def traced_part(self, argument: Any) -> Any:
        """An argument like this one, None in place of what is not traced."""
        if self.is_whole:
            return None
        leaves = jax.tree.leaves(argument)
        return jax.tree.unflatten(self.treedef, [None if k in self.leaves else x for k, x in enumerate(leaves)])

    def filled(self, traced: Any) -> Any:
        """The whole argument for other values of what is traced."""
        if self.is_whole:
            return self.whole
        rest = iter(jax.tree.leaves(traced))
        leaves = [self.leaves[k] if k in self.leaves else next(rest) for k in range(self.treedef.num_leaves)]
        return jax.tree.unflatten(self.treedef, leaves)

    def identities(self, argument: Any) -> Hashable:
        """The identities of an argument's leaves in the places that are not traced here; None if it lacks these."""
        leaves, treedef = _flattened(argument)
        return (treedef, *((k, identity(leaves[k])) for k in self.leaves)) if treedef == self.treedef else None


@dataclass(frozen=True, eq=False)
class Settings:
    """What is not traced of a call, as it was when this was made; equal where a function could not tell the difference."""

    fun: Callable[..., Any]
    kept: Mapping[int | str, _Argument]
    identities: tuple[tuple[int | str, Hashable], ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.fun is other.fun and self.identities == other.identities

    def __hash__(self) -> int:
        return hash(self.identities)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, with what is not traced filled in."""
        whole = [self.kept[i].filled(x) if i in self.kept else x for i, x in enumerate(args)]
        named = {k: self.kept[k].filled(x) if k in self.kept else x for k, x in kwargs.items()}
        return losing_nothing(self.fun, whole, named)(*whole, **named)

    def traced_parts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Other arguments, None in place of what is not traced.

        Raises:
            StaticArgumentError: what is not traced differs.
        """
        arguments: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        for place, compiled_for in self.identities:
            argument = self.kept[place]
            if place not in arguments or argument.identities(arguments[place]) != compiled_for:
                name = argument_name(self.fun, place, len(args), kwargs)
                compiled = argument.whole if argument.is_whole else list(argument.leaves.values())
                raise StaticArgumentError(title(self.fun), name, compiled, arguments.get(place))
        return _traced_parts(self.kept, args, kwargs)


@dataclass(frozen=True, eq=False)
class SplitCall:
    """A call as a function of its traced arguments alone.

    Attributes:
        original: the function.
        fun: takes `args` and `kwargs` or others like them, and calls `original` with the rest filled in.
        args, kwargs: the call's, None in place of what is not traced.
        kept: what is not traced, by position or keyword.
    """

    original: Callable[..., Any]
    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kept: Mapping[int | str, _Argument]

    def settings(self) -> Settings:
        """What is not traced, without the arrays of the call."""
        identities = {p: (a.treedef, *((k, identity(x)) for k, x in a.leaves.items())) for p, a in self.kept.items()}
        return Settings(self.original, self.kept, tuple(identities.items()))


def split_call(
    fun: Callable[..., Any],
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    differentiated: Collection[int] = (),
    numbers: bool = False,
) -> SplitCall:
    """Take a call apart into what is traced and what is not.

    Args:
        fun, args, kwargs: the call.
        differentiated: positions of arguments all of whose leaves are traced, whatever they are.
        numbers: whether Python numbers are traced too, as under `jax.jit`; booleans are not.
    """
    args, kwargs = tuple(args), dict(kwargs)
    places: list[tuple[int | str, Any]] = [(i, x) for i, x in enumerate(args) if i not in differentiated]
    kept = {p: argument for p, x in [*places, *kwargs.items()] if (argument := _argument(x, numbers)) is not None}
    if not kept:
        return SplitCall(fun, losing_nothing(fun, args, kwargs), args, kwargs, kept)
    return SplitCall(fun, standing_for(fun, Settings(fun, kept, ()).call), *_traced_parts(kept, args, kwargs), kept)


def _argument(x: Any, numbers: bool) -> _Argument | None:
    leaves, treedef = _flattened(x)
    static = {k: leaf for k, leaf in enumerate(leaves) if not (is_traced(leaf) or (numbers and _is_number(leaf)))}
    return _Argument(x if len(static) == len(leaves) else None, treedef, static) if static else None


def _flattened(x: Any) -> tuple[list[Any], Any]:
    return cast(tuple[list[Any], Any], jax.tree.flatten(x))


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (int, float, complex, np.generic)) and not isinstance(leaf, bool)


def _traced_parts(
    kept: Mapping[int | str, _Argument], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    positional = tuple(kept[i].traced_part(x) if i in kept else x for i, x in enumerate(args))
    return positional, {k: kept[k].traced_part(x) if k in kept else x for k, x in kwargs.items()}


def identity(value: Any) -> Hashable:
    """What distinguishes a value from others that a function may treat differently: True from 1, 1 from 1.0, 0.0 from -0.0.

    Containers and objects are identified by what they hold now, so that a change in place is seen.  Objects are equal only
    to themselves, except dataclasses without other state.
    """
    return _identity(value, {})


def _identity(value: Any, met: dict[int, int]) -> Hashable:
    kind = type_of(value)
    if value is None or kind in (bool, int, str, bytes):
        return kind, value
    if kind in (float, complex):
        return kind, repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        plain = cast("np.ndarray[Any, Any]", np.asarray(cast(Any, value)))
        return kind, str(plain.dtype), plain.shape, _Same(value) if plain.dtype.hasobject else plain.tobytes()
    if isinstance(value, (enum.Enum, *_WHOLE)):
        return kind, _Same(value)
    if id(value) in met:  # identified where it occurred first
        return kind, met[id(value)]
    met[id(value)] = len(met)

    def identities(values: Iterable[Any]) -> tuple[Hashable, ...]:
        return tuple(_identity(x, met) for x in values)

    state: tuple[Hashable, ...] = identities(_state(value))
    if isinstance(value, (list, tuple, collections.deque)):
        state += identities(cast(Iterable[Any], value))
    elif isinstance(value, (set, frozenset)):
        state += (frozenset(identities(cast(Iterable[Any], value))),)
    elif isinstance(value, dict):
        table = cast(dict[Any, Any], value)
        state += identities(table) + identities(table.values())
    plain_data = kind in (list, tuple, set, frozenset, dict)
    if plain_data or (dataclasses.is_dataclass(kind) and kind.__bases__ == (object,)):
        return kind, state
    return kind, _Same(value), state


class _Same:
    """Equal to another about the same object, which it keeps alive: an address may be used again."""

    def __init__(self, value: Any) -> None:
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
