# pyright: reportUnknownMemberType=false
"""The names that messages use: the user's function and its line, and the user's arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import jax

from ckptgrad.interactive import cell_name

# From an argument's place and a path in it to the name of an argument and the path in that.
Called: TypeAlias = Callable[[int | str, tuple[Any, ...]], tuple[str, tuple[Any, ...]]]


def name_of(fun: Any) -> str:
    """The name of a function, also of one inside a `functools.partial`, or the class of another callable."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    return getattr(fun, "__name__", type(fun).__name__)


def title(fun: Any) -> str:
    """A function's name and where it is written: `loss (model.py:12)`."""
    inner = fun
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    if not hasattr(inner, "__code__"):
        inner = getattr(cast(Any, type(inner)), "__call__", inner)  # noqa: B004 - for its line, not whether it has one
    code = getattr(inner, "__code__", None)
    if code is None:
        return name_of(fun)
    return f"{name_of(fun)} ({cell_name(code.co_filename) or code.co_filename}:{code.co_firstlineno})"


def counted(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "step"), counted(2, "step")
        ('1 step', '2 steps')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def argument_name(fun: Callable[..., Any], place: int | str, count: int, kwargs: Mapping[str, Any]) -> str:
    """The user's name of an argument, by its position or keyword, in a call with `count` positional ones."""
    if isinstance(place, str):
        return place
    try:
        bound = inspect.signature(fun).bind_partial(*range(count), **dict.fromkeys(kwargs))
    except (TypeError, ValueError):  # no signature, or a call that does not fit it
        return f"args[{place}]"
    for name, position in bound.arguments.items():
        if position is not None and position == place and not isinstance(position, tuple):
            return name
        if isinstance(position, tuple):
            rest = cast(tuple[int, ...], position)
            if place in rest:
                return f"{name}[{rest.index(place)}]"
    return f"args[{place}]"


def leaf_names(fun: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The user's names of all leaves of (args, kwargs), in JAX's order: `params['w']`."""
    names: list[str] = []
    arguments: dict[int | str, str] = {}
    leaves = cast(list[tuple[Any, Any]], jax.tree_util.tree_flatten_with_path((tuple(args), dict(kwargs)))[0])
    for path, _ in leaves:
        place: int | str = path[1].idx if path[0].idx == 0 else path[1].key
        if (called := _called(fun)) is not None:
            argument, inside = called(place, path[2:])
            names.append(argument + jax.tree_util.keystr(inside))
            continue
        if place not in arguments:
            arguments[place] = argument_name(fun, place, len(args), kwargs)
        names.append(arguments[place] + jax.tree_util.keystr(path[2:]))
    return names


def leaf_arguments(fun: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The user's name of the argument of each leaf of (args, kwargs), in JAX's order."""
    names: list[str] = []
    called = _called(fun)
    for place, argument in [*enumerate(args), *sorted(kwargs.items())]:
        if called is not None:
            leaves = cast(list[tuple[Any, Any]], jax.tree_util.tree_flatten_with_path(argument)[0])
            names += [called(place, path)[0] for path, _ in leaves]
            continue
        names += [argument_name(fun, place, len(args), kwargs)] * len(jax.tree.leaves(argument))
    return names


def _called(fun: Any) -> Called | None:
    return getattr(fun, "__dict__", {}).get("_called")


def standing_for(
    fun: Callable[..., Any],
    inner: Callable[..., Any],
    parameters: Sequence[str] | None = None,
    called: Called | None = None,
) -> Callable[..., Any]:
    """`inner` under the name, the line and the parameters of `fun`, which JAX shows in its own messages.

    Args:
        fun: the user's function.
        inner: the function that is traced instead.
        parameters: the names of all arguments of `inner`, if they are not those of `fun`.
        called: where arguments of `inner` hold parts of several ones of `fun`: from the place of an argument of `inner` and
            the path of a leaf in it to the name of the user's argument and the path in that.
    """

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    stand_in.__name__ = name_of(fun)
    stand_in.__dict__["__wrapped__"] = fun
    called = called or (_called(fun) if parameters is None else None)
    if called is not None:
        stand_in.__dict__["_called"] = called
    if parameters is not None and all(map(str.isidentifier, parameters)):
        kind = inspect.Parameter.POSITIONAL_ONLY
        stand_in.__dict__["__signature__"] = inspect.Signature([inspect.Parameter(p, kind) for p in parameters])
    return stand_in
