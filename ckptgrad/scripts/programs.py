"""The jitted functions of a script: what they compile with planned gradients inside is certified as a whole."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from typing import Any, Protocol

import jax
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding

from ckptgrad.doors.step_call import JitOptions, StepCall, step_call
from ckptgrad.graph.naming import name_of
from ckptgrad.results.script_run import GradientCall
from ckptgrad.target.allocated import compiled_memory

# The gradients that the program being traced asks for, in order; None outside programs.
_TRACED: ContextVar[list[GradientCall] | None] = ContextVar("traced", default=None)


class Book(Protocol):
    """Where gradients are counted: see `scripts.planned.PlannedGradients`."""

    active: bool

    def count(self, calls: list[GradientCall], program: str = "", certified_bytes: int | None = None) -> None:
        """Count calls, which the program that they are in holds with so many bytes beyond its arguments."""
        ...

    def dry_run(self, program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this is a dry run, in which the program was compiled instead, and is to run with JAX's own gradients."""
        ...

    def left_alone(self) -> Any:
        """A context in which gradients are JAX's own."""
        ...


def traced() -> list[GradientCall] | None:
    """The calls noted in the program that is being traced; None outside programs."""
    return _TRACED.get()


@contextmanager
def tracing(book: Book | None = None) -> Iterator[list[GradientCall]]:
    """Collect the gradients that are asked for meanwhile; if that fails, they are counted in the book."""
    calls: list[GradientCall] = []
    token = _TRACED.set(calls)
    try:
        yield calls
    except Exception:
        if book is not None:
            book.count(calls)
        raise
    finally:
        _TRACED.reset(token)


class ScriptProgram:
    """A function that a script has jitted. It is what `jax.jit` returns in all but what it notes."""

    def __init__(self, book: Book, fun: Callable[..., Any], jitted: Any, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, jitted, updated=())
        self._book, self._fun, self._jitted, self._options = book, fun, jitted, options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        book = self._book
        if not book.active or traced() is not None:
            return self._jitted(*args, **kwargs)
        if book.dry_run(self, args, kwargs):
            with book.left_alone():
                return self._jitted(*args, **kwargs)
        with tracing(book) as calls:
            result = self._jitted(*args, **kwargs)
        if calls:
            book.count(seen_whole(calls, args, kwargs), name_of(self._fun), self._certified_bytes(args, kwargs))
        return result

    def _certified_bytes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        """What XLA allocated for the program that has just run; None where JAX does not say, or another one was run.

        JAX keeps the program that it ran, so that nothing is traced or compiled again; arguments that were donated still
        have their types.
        """
        if is_traced(args, kwargs):
            return None
        try:
            with tracing():
                return compiled_memory(self._jitted.lower(*args, **kwargs).compile()).peak_bytes
        except (TypeError, ValueError, RuntimeError):
            return None

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepCall:
        """A call of the same function, jitted apart from what runs, so that neither is taken for the other."""

        @functools.wraps(self._fun)
        def apart(*args: Any, **kwargs: Any) -> Any:
            return self._fun(*args, **kwargs)

        options = {f.name: self._options[f.name] for f in fields(JitOptions) if f.name in self._options}
        return step_call(apart, args, kwargs, JitOptions(**options))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._jitted, name)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As `jax.jit`'s."""
        return self._jitted.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As `jax.jit`'s."""
        return self._jitted.trace(*args, **kwargs)


def seen_whole(calls: Sequence[GradientCall], *trees: Any) -> list[GradientCall]:
    """Calls inside a program, whose predictions are of all devices together over which its arguments lie automatically."""
    shardings = [getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(trees)]
    meshes = [s.mesh for s in shardings if isinstance(s, NamedSharding) and AxisType.Explicit not in s.mesh.axis_types]
    together = max((mesh.size for mesh in meshes), default=1)
    return [call if call.peak_bytes is None else replace(call, together=together) for call in calls]


def is_traced(*trees: Any) -> bool:
    """Whether something is a value of a program that is being traced, or of a transformation."""
    return traced() is not None or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))
