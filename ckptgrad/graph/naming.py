"""The names that messages use: the user's function and its line, and the user's arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
        inner = getattr(type(inner), "__call__", inner)  # noqa: B004 - its line is wanted, not whether it has one
    code = getattr(inner, "__code__", None)
    if code is None:
        return name_of(fun)
    return f"{name_of(fun)} ({cell_name(code.co_filename) or code.co_filename}:{code.co_firstlineno})"


def argument_name(fun: Callable, place: int | str, count: int, kwargs: Mapping[str, Any]) -> str:
    """The user's name of an argument, by its position or keyword, in a call with so many positional ones."""
    if isinstance(place, str):
        return place
    try:
        bound = inspect.signature(fun).bind_partial(*range(count), **dict.fromkeys(kwargs))
    except (TypeError, ValueError):  # no signature, or a call that does not fit it
        return f"args[{place}]"
    for name, found in bound.arguments.items():
        if found is not None and found == place and not isinstance(found, tuple):
            return name
        if isinstance(found, tuple) and place in found:
            return f"{name}[{found.index(place)}]"
    return f"args[{place}]"


def leaf_names(fun: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """The user's names of all leaves of (args, kwargs), in JAX's order: `params['w']`."""
    found = []
    for path, _ in jax.tree_util.tree_flatten_with_path((tuple(args), dict(kwargs)))[0]:
        place = path[1].idx if path[0].idx == 0 else path[1].key
        found.append(argument_name(fun, place, len(args), kwargs) + jax.tree_util.keystr(path[2:]))
    return found


def standing_for(fun: Callable, inner: Callable, parameters: Sequence[str] | None = None) -> Callable:
    """`inner` under the name, the line and the parameters of `fun`, where JAX reads them for its own messages.

    Args:
        fun: the user's function.
        inner: what is traced instead of it.
        parameters: the names of all arguments of `inner`, if they are not those of `fun`.
    """

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    stand_in.__name__, stand_in.__wrapped__ = name_of(fun), fun  # type: ignore[attr-defined]
    if parameters is not None and all(map(str.isidentifier, parameters)):
        kind = inspect.Parameter.POSITIONAL_ONLY
        stand_in.__signature__ = inspect.Signature([inspect.Parameter(p, kind) for p in parameters])  # type: ignore
    return stand_in
