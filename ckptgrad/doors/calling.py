"""A call of a function, flattened: its leaves, their names, and which of them are differentiated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ckptgrad.doors.leaves import NUMBERS, dtype_of
from ckptgrad.errors import ArgnumsError, GradientTypeError, KeywordError, OptionError
from ckptgrad.errors.base import near_miss
from ckptgrad.graph.naming import argument_name, leaf_arguments, leaf_names, standing_for, title
from ckptgrad.graph.static_arguments import SplitCall, split_call
from ckptgrad.once import once
from ckptgrad.target.target import Target


@dataclass(frozen=True)
class Call:
    """One call of a function.

    Attributes:
        fun: the function of what is traced.
        args, kwargs: its arguments, None in place of what is not traced.
        argnums: positions of the differentiated arguments, counted from the front.
        original: the user's function.
        parameters: the user's names of `args`, where these are not all the arguments of `original`.
    """

    fun: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: tuple[int, ...]
    original: Callable
    parameters: tuple[str, ...] | None = None

    @once
    def leaves(self) -> list[Any]:
        """The leaves of the arguments; numbers as arrays, which rules and pullbacks are written for."""
        return [jnp.asarray(x) if isinstance(x, NUMBERS) else x for x in jax.tree.leaves((self.args, self.kwargs))]

    @once
    def names(self) -> list[str]:
        """The user's names of the leaves: `params['w']`."""
        return leaf_names(standing_for(self.original, self.fun, self.parameters), self.args, self.kwargs)

    @once
    def argument_names(self) -> list[str]:
        """The user's name of the argument of each leaf."""
        return leaf_arguments(standing_for(self.original, self.fun, self.parameters), self.args, self.kwargs)

    @property
    def primals(self) -> tuple[Any, ...]:
        """The differentiated arguments."""
        return tuple(self.args[i] for i in self.argnums)

    @once
    def primals_tree(self) -> Any:
        """The structure of the differentiated arguments, which a gradient has too: a tuple, one entry per argnum."""
        return jax.tree.structure(self.primals)

    @once
    def selected(self) -> list[int]:
        """Positions in `leaves` of the leaves of the differentiated arguments, in their order."""
        starts = [0]
        for arg in self.args:
            starts.append(starts[-1] + len(jax.tree.leaves(arg)))
        return [k for i in self.argnums for k in range(starts[i], starts[i + 1])]

    def of_primals(self) -> Call:
        """The same as a function of the differentiated arguments alone, in their order."""

        def inner(*primals: Any) -> Any:
            args = list(self.args)
            for i, x in zip(self.argnums, primals, strict=True):
                args[i] = x
            return self.fun(*args, **self.kwargs)

        names = tuple(argument_name(self.original, i, len(self.args), self.kwargs) for i in self.argnums)
        return Call(inner, self.primals, {}, tuple(range(len(self.primals))), self.original, names)


def check_function(fun: Any) -> None:
    """Reject what cannot be differentiated whatever it is called with, as JAX does.

    Raises:
        GradientTypeError: it is not callable, or a generator function.
    """
    if not callable(fun):
        raise GradientTypeError(f"Expected a callable value to differentiate, got {fun!r}")
    if inspect.isgeneratorfunction(fun):
        raise GradientTypeError(f"Expected a function, got a generator function: {title(fun)}")


def check_keywords(door: Callable, fun: Callable, keywords: Iterable[str]) -> None:
    """Reject keywords that a door passes on to a function which does not take them, where an option was meant.

    Raises:
        KeywordError: naming the option.
    """
    try:
        # A decorator may add parameters to those of the function that it says to stand for.
        signatures = [inspect.signature(fun, follow_wrapped=follow) for follow in (False, True)]
    except (TypeError, ValueError):  # no signature: what it takes is not known
        return
    taken = [p for signature in signatures for p in signature.parameters.values()]
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return
    known = {p.name for p in taken if p.kind is not p.POSITIONAL_ONLY}
    options = [p.name for p in inspect.signature(door).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in keywords:
        meant = None if name in known else near_miss(name, options)
        if meant is not None:
            raise KeywordError(
                f"{door.__name__}() has no option {name!r}, and {title(fun)} takes no argument of that name: did you mean "
                f"{meant!r}?"
            )


def check_runs(target: Target, values: Any) -> None:
    """Refuse to run with arrays what is planned for devices that are not here; tracers may be compiled for them.

    Args:
        target: what is planned for.
        values: what the program is given, a pytree.

    Raises:
        NotAttachedError: the target is not attached to this process.
    """
    if not any(isinstance(x, Tracer) for x in jax.tree.leaves(values)):
        target.check_runs()


def positional(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call with as many of its arguments by position as its signature allows."""
    try:
        bound = inspect.signature(fun).bind(*args, **kwargs)
    except (TypeError, ValueError):  # no signature, or a call that does not fit it, of which the function itself complains
        return tuple(args), dict(kwargs)
    return bound.args, bound.kwargs


def make_call(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: int | Sequence[int]) -> Call:
    """The call of a function, differentiated with respect to the arguments that a request names.

    Raises:
        ArgnumsError, OptionError: as from `split_arguments`.
        GradientTypeError: a differentiated argument holds something that is neither an array nor a number.
    """
    return _differentiated(fun, args, kwargs, _positions(fun, args, argnums))


def call_of_all(fun: Callable, primals: Sequence[Any]) -> Call:
    """The call of a function, differentiated with respect to all its arguments, as in `vjp`.

    Raises:
        GradientTypeError: an argument holds something that is neither an array nor a number.
    """
    return _differentiated(fun, primals, {}, tuple(range(len(primals))))


def call_of_none(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
    """The call of a function, differentiated by others with respect to whatever is traced of its arguments."""
    return _flattened(split_call(fun, args, kwargs), ())


def split_arguments(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: int | Sequence[int]) -> SplitCall:
    """A call as a function of what is traced of its arguments, which is all of those that `argnums` name.

    Raises:
        ArgnumsError: an argnum is out of range.
        OptionError: they name an argument twice.
    """
    return split_call(fun, args, kwargs, _positions(fun, args, argnums))


def _differentiated(fun: Callable, args: Sequence[Any], kwargs: dict[str, Any], argnums: tuple[int, ...]) -> Call:
    call = _flattened(split_call(fun, args, kwargs, argnums), argnums)
    for k in call.selected:
        dtype_of(call.leaves[k], lambda k=k: f"the argument {call.names[k]} of {title(fun)}")
    return call


def _flattened(split: SplitCall, argnums: tuple[int, ...]) -> Call:
    return Call(split.fun, split.args, split.kwargs, argnums, split.original)


def _positions(fun: Callable, args: Sequence[Any], argnums: int | Sequence[int]) -> tuple[int, ...]:
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    for k in numbers:
        if not -len(args) <= k < len(args):
            needed = k + 1 if k >= 0 else -k
            raise ArgnumsError(
                f"differentiating with respect to argnums={argnums!r} requires at least {needed} positional arguments to be "
                f"passed by the caller, but got only {len(args)} positional arguments, for {title(fun)}"
            )
    positions = tuple(k % len(args) for k in numbers)
    if len(set(positions)) != len(positions):
        raise OptionError(f"argnums={argnums!r} names an argument twice in a call with {len(args)} positional arguments")
    return positions
