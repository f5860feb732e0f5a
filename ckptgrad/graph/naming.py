# pyright: reportUnknownMemberType=false
"""The names that messages use: the user's function and its line, and the user's arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax

from ckptgrad.interactive import cell_name


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
        if place not in arguments:
            arguments[place] = argument_name(fun, place, len(args), kwargs)
        names.append(arguments[place] + jax.tree_util.keystr(path[2:]))
    return names


def leaf_arguments(fun: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The user's name of the argument of each leaf of (args, kwargs), in JAX's order."""
    names: list[str] = []
    for place, argument in [*enumerate(args), *sorted(kwargs.items())]:
        names += [argument_name(fun, place, len(args), kwargs)] * len(jax.tree.leaves(argument))
    return names


def standing_for(
    fun: Callable[..., Any], inner: Callable[..., Any], parameters: Sequence[str] | None = None
) -> Callable[..., Any]:
    """`inner` under the name, the line and the parameters of `fun`, which JAX shows in its own messages.

    Args:
        fun: the user's function.
        inner: the function that is traced instead.
        parameters: the names of all arguments of `inner`, if they are not those of `fun`.
    """

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    stand_in.__name__ = name_of(fun)
    stand_in.__dict__["__wrapped__"] = fun
    if parameters is not None and all(map(str.isidentifier, parameters)):
        kind = inspect.Parameter.POSITIONAL_ONLY
        stand_in.__dict__["__signature__"] = inspect.Signature([inspect.Parameter(p, kind) for p in parameters])
    return stand_in
