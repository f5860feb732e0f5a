"""A call of a whole step, to be compiled as `jax.jit` compiles it: what is donated, static, and how it lies over devices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax

from ckptgrad.doors.fit_calls import Recorder
from ckptgrad.errors import OptionError, StaticArgumentError
from ckptgrad.execution.step_planner import planned_by
from ckptgrad.graph.naming import argument_name, leaf_arguments, leaf_names, standing_for, title
from ckptgrad.graph.static_arguments import identity, is_traced

Places = int | Sequence[int] | None
Names = str | Iterable[str] | None


@dataclass(frozen=True)
class JitOptions:
    """Options of `jax.jit`, which give them their meaning."""

    donate_argnums: Places = None
    donate_argnames: Names = None
    static_argnums: Places = None
    static_argnames: Names = None
    in_shardings: Any = None
    out_shardings: Any = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in self.__dataclass_fields__)


@dataclass(frozen=True)
class StepCall:
    """A function with example arguments.

    Attributes:
        fun: the user's function.
        jitted: of what is not static of the arguments.
        args, kwargs: what is not static of the arguments.
        static: what is, by position or keyword.
    """

    fun: Callable[..., Any]
    jitted: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    static: Mapping[int | str, Any] = field(default_factory=dict)

    def under(self, surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Any:
        """The jitted function, traced under a context."""
        return _Surrounded(self.jitted, surroundings)

    @property
    def names(self) -> list[str]:
        """The user's names of the leaves of `args` and `kwargs`: `params['w']`."""
        return leaf_names(self._named, self.args, self.kwargs)

    @property
    def argument_names(self) -> list[str]:
        """The user's name of the argument of each leaf."""
        return leaf_arguments(self._named, self.args, self.kwargs)

    @property
    def _named(self) -> Callable[..., Any]:
        return self.jitted if self.static else self.fun

    def dynamic(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What is not static of other arguments.

        Raises:
            StaticArgumentError: what is static differs.
        """
        given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        for place, value in self.static.items():
            if place not in given or not _same(given[place], value):
                name = argument_name(self.fun, place, len(args), kwargs)
                raise StaticArgumentError(title(self.fun), name, value, given.get(place), what="step")
        return _without(self.static, args, kwargs)


@dataclass(frozen=True)
class _Surrounded:
    """A `jax.jit` function that is traced under a context."""

    jitted: Any
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        with self.surroundings():
            return self.jitted.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        with self.surroundings():
            return self.jitted.trace(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.surroundings():
            return self.jitted(*args, **kwargs)


def step_call(fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: JitOptions) -> StepCall:
    """The call of a step.

    A function that is jitted already keeps its own options.

    Raises:
        OptionError: options for a function that is jitted already, or that do not fit the arguments.
    """
    if not callable(fun):
        raise OptionError(f"a step must be a function, got {fun!r}")
    if hasattr(fun, "lower") and hasattr(fun, "trace"):
        if options:
            raise OptionError(
                f"{title(fun)} is jitted already, so that options given here would not reach it; give them to its own "
                f"jax.jit, or give the function inside"
            )
        return _jitted_already(fun, args, kwargs)
    places = _Places(fun, args, kwargs)
    static = places.named(options.static_argnums, options.static_argnames, "static")
    donated = places.named(options.donate_argnums, options.donate_argnames, "donate")
    both = [place for place in static if place in set(donated)]
    if both:
        raise OptionError(f"{argument_name(fun, both[0], len(args), kwargs)} is static, so that it cannot be donated")
    values = {place: args[place] if isinstance(place, int) else kwargs[place] for place in static}
    kept = [i for i in range(len(args)) if i not in values]

    def dynamic(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _with(values, args, kwargs)
        return fun(*args, **kwargs)

    shardings = {"in_shardings": options.in_shardings, "out_shardings": options.out_shardings}
    names = [argument_name(fun, i, len(args), kwargs) for i in kept]
    unique = len({*names, *kwargs}) == len(names) + len(kwargs)
    jitted = jax.jit(
        standing_for(fun, dynamic, names if values and not kwargs and unique else None),
        donate_argnums=tuple(kept.index(i) for i in donated if isinstance(i, int)),
        donate_argnames=tuple(name for name in donated if isinstance(name, str)),
        # What the caller holds anyway counts, whether it is read or not.
        keep_unused=True,
        **{name: value for name, value in shardings.items() if value is not None},
    )
    return StepCall(fun, jitted, *_without(values, args, kwargs), values)


def _jitted_already(fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepCall:
    """The call of a function that is jitted already: which arguments it takes as static is seen from what it traces.

    Raises:
        OptionError: several arguments might be the static ones.
    """
    places = [i for i, x in enumerate(args) if not any(map(is_traced, jax.tree.leaves(x)))]
    if not places and all(any(map(is_traced, jax.tree.leaves(x))) for x in kwargs.values()):
        return StepCall(fun, fun, args, kwargs)
    # Gradients inside whose budget is the step's are planned by whoever fits it: here anyhow.
    with planned_by(Recorder()):
        given, named = fun.trace(*args, **kwargs).args_info
    count = len(args) - len(given)
    places = places if count else []
    if len(places) != count:
        raise OptionError(
            f"{title(fun)} takes {count} of its {len(args)} positional arguments as static, and it cannot be told which; "
            f"give the function inside its jax.jit, with static_argnums here"
        )
    static = {place: args[place] for place in places} | {name: x for name, x in kwargs.items() if name not in named}
    return StepCall(fun, _Filled(fun, static) if static else fun, *_without(static, args, kwargs), static)


@dataclass(frozen=True)
class _Filled:
    """A `jax.jit` function of what is not static of its arguments."""

    jitted: Any
    static: Mapping[int | str, Any]

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function, without what is static."""
        signature = inspect.signature(self.jitted)
        left = [
            p for i, (name, p) in enumerate(signature.parameters.items()) if i not in self.static and name not in self.static
        ]
        return signature.replace(parameters=left)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _with(self.static, args, kwargs)
        return self.jitted.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _with(self.static, args, kwargs)
        return self.jitted.trace(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _with(self.static, args, kwargs)
        return self.jitted(*args, **kwargs)


@dataclass(frozen=True)
class _Places:
    """Where the arguments of a call stand, by the numbers and names that `jax.jit` takes."""

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def named(self, numbers: Places, names: Names, what: str) -> list[int | str]:
        """The positions and keywords of the arguments that numbers or names mean, where the call has them.

        As with `jax.jit`, a number alone also means the parameter of that position where it is given by its name, and a
        name alone an argument that is given by its position.
        """
        positional = self._parameters()
        count = len(positional) if positional is not None else len(self.args)
        numbers_ = (numbers,) if isinstance(numbers, int) else tuple(numbers or ())
        names_ = (names,) if isinstance(names, str) else tuple(names or ())
        found: list[int | str] = []
        for number in numbers_:
            place = number + max(count, len(self.args)) if number < 0 else number
            if place < 0 or (place >= len(self.args) and (positional is None or place >= len(positional))):
                raise OptionError(
                    f"{what}_argnums={numbers!r} names argument {number}, and {title(self.fun)} is called with "
                    f"{len(self.args)} positional arguments"
                )
            if place < len(self.args):
                found.append(place)
            elif positional is not None and positional[place] in self.kwargs:
                found.append(positional[place])
        for name in names_:
            if name in self.kwargs:
                found.append(name)
            elif positional is not None and name in positional:
                place = positional.index(name)
                if place < len(self.args):
                    found.append(place)
            else:
                raise OptionError(f"{what}_argnames={names!r} names {name!r}, which {title(self.fun)} does not take")
        return list(dict.fromkeys(found))

    def _parameters(self) -> list[str] | None:
        """The names of the parameters that may be given by position; None where that is not known."""
        try:
            parameters = inspect.signature(self.fun).parameters.values()
        except (TypeError, ValueError):
            return None
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
            return None
        return [p.name for p in parameters if p.kind in kinds]


def _without(
    static: Mapping[int | str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(x for i, x in enumerate(args) if i not in static), {k: x for k, x in kwargs.items() if k not in static}


def _with(
    static: Mapping[int | str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The whole of arguments of which these are not static."""
    rest = iter(args)
    count = len(args) + sum(isinstance(place, int) for place in static)
    whole = tuple(static[i] if i in static else next(rest) for i in range(count))
    return whole, kwargs | {name: x for name, x in static.items() if isinstance(name, str)}


def _same(value: Any, compiled: Any) -> bool:
    """Whether a static argument is what it was, as `jax.jit` compares them; `identity` tells True from 1."""
    return (
        value is compiled
        or (type(value) is type(compiled) and identity(value) == identity(compiled))
        or _equal(value, compiled)
    )


def _equal(value: Any, compiled: Any) -> bool:
    return type(value) is type(compiled) and type(value).__eq__ is not object.__eq__ and bool(value == compiled)
