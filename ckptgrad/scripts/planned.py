"""The gradient functions of JAX, Flax NNX and Equinox, replaced by planned ones while a script runs.

`jax.grad` and `jax.value_and_grad` are replaced before the script imports anything, so that `from jax import grad` and
libraries that call them are planned as well; those of `flax.nnx` and Equinox as soon as these are imported. What JAX itself,
these libraries' own functions and ckptgrad ask for is left as it is, and so is what cannot be
planned: the report says why. `jax.jit` is replaced too: a program with planned gradients inside is certified as a whole
(`scripts.programs`).

A dry run compiles instead: each gradient alone, or the program that it is in, from the types of the arguments, for a target
that need not be here. Then the script goes on with JAX's own gradients, until as many programs or gradients were compiled as
asked.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from ckptgrad.bytes import format_bytes, is_share
from ckptgrad.doors import gradient
from ckptgrad.doors.certify import compile_whole
from ckptgrad.doors.watching import watching
from ckptgrad.errors import BudgetError, CkptgradError
from ckptgrad.graph.naming import name_of, title
from ckptgrad.libraries import eqx, nnx
from ckptgrad.results.plan import Plan
from ckptgrad.results.script_run import GradientCall
from ckptgrad.scripts.after_import import AfterImport
from ckptgrad.scripts.programs import ScriptProgram, is_traced, seen_whole, traced, tracing
from ckptgrad.target.named import target as named_target

_NAMES = ("grad", "value_and_grad")
# Libraries with gradient functions of their own: the module, ours, and how they call them.
_LIBRARIES = (("flax.nnx", nnx, _NAMES), ("equinox", eqx, ("filter_grad", "filter_value_and_grad")))
# Whose own calls are not the script's.
_NOT_SCRIPTS = ("jax", "jaxlib", "ckptgrad")
_OWN = (*_NOT_SCRIPTS, *(module for module, _, _ in _LIBRARIES))
# Whether gradients are JAX's own: one inside a planned gradient is part of its function, and a dry run runs nothing planned.
_LEFT_ALONE: ContextVar[bool] = ContextVar("left_alone", default=False)


class Enough(BaseException):
    """Ends the script of a dry run, which has compiled what was asked for."""


class PlannedGradients:
    """Gradients that a script asks for, planned with the same options.

    Args:
        options: of `ckptgrad.value_and_grad`: budget, policy, costs, target.
        dry: how many programs or gradients are compiled before the script ends; None to run what is planned.
    """

    def __init__(self, options: dict[str, Any], dry: int | None = None) -> None:
        self.options, self.dry, self.active = options, dry, False
        self._calls: dict[GradientCall, int] = {}
        self._certified: dict[GradientCall, tuple[str, int]] = {}
        self._plans: dict[GradientCall, Plan] = {}
        self._compiled: set[Any] = set()

    @property
    def calls(self) -> tuple[GradientCall, ...]:
        """What was asked for so far."""
        return tuple(
            replace(call, times=times, program=program, certified_bytes=certified)
            for call, times in self._calls.items()
            for program, certified in (self._certified.get(call, ("", None)),)
        )

    @property
    def plans(self) -> dict[str, Plan]:
        """The plan of each planned gradient, by the function and the line that asked for it."""
        names = [f"{call.function}, asked for at {call.place}" for call in self._plans]
        again = [names[:k].count(name) for k, name in enumerate(names)]
        return {f"{n} ({k + 1})" if k else n: p for n, k, p in zip(names, again, self._plans.values(), strict=True)}

    def count(self, calls: Sequence[GradientCall], program: str = "", certified_bytes: int | None = None) -> None:
        """Count calls, for which `certified_bytes` are held beyond the arguments of the program that they are in."""
        for call in calls:
            self._calls[call] = self._calls.get(call, 0) + 1
            if certified_bytes is not None and certified_bytes > self._certified.get(call, ("", -1))[1]:
                self._certified[call] = program, certified_bytes

    def dry_run(self, program: ScriptProgram, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether this is a dry run; then what is planned in a program is certified with it, before it runs."""
        if self.dry is None or is_traced(args, kwargs):
            return False
        if not _LEFT_ALONE.get() and (key := _types(program, args, kwargs)) not in self._compiled:
            target = named_target(self.options.get("target"))
            with tracing(self) as calls:
                compiled = compile_whole(program.call(args, kwargs), target)
            if calls:
                self.count(seen_whole(calls, args, kwargs), name_of(program), compiled.certificate.memory.peak_bytes)
                self._compiled_another(key)
        return True

    def _compiled_another(self, key: Any) -> None:
        """Raises Enough: as much was compiled as asked for."""
        self._compiled.add(key)
        if self.dry is not None and len(self._compiled) >= self.dry:
            raise Enough

    @contextmanager
    def left_alone(self) -> Iterator[None]:
        """Gradients are JAX's own meanwhile."""
        token = _LEFT_ALONE.set(True)
        try:
            yield
        finally:
            _LEFT_ALONE.reset(token)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the functions meanwhile."""
        restored: list[tuple[Any, str, Any]] = []
        finders = [
            AfterImport(
                name, lambda name=name, ours=ours, names=names: self._replace(sys.modules[name], ours, names, restored)
            )
            for name, ours, names in _LIBRARIES
        ]
        self._replace(jax, gradient, _NAMES, restored)
        restored.append((jax, "jit", jax.jit))
        jax.jit = self._watched(jax.jit)
        for name, ours, names in _LIBRARIES:
            if name in sys.modules:
                self._replace(sys.modules[name], ours, names, restored)
        sys.meta_path[:0] = finders
        self.active = True
        try:
            yield
        finally:
            self.active = False
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder not in finders]
            for module, name, original in reversed(restored):
                setattr(module, name, original)

    def _replace(self, module: Any, ours: Any, names: Sequence[str], restored: list[tuple[Any, str, Any]]) -> None:
        for name in names:
            original = getattr(module, name)
            restored.append((module, name, original))
            setattr(module, name, self._planned(original, getattr(ours, name)))

    def _watched(self, original: Callable[..., Any]) -> Any:
        """A `jax.jit` whose programs are watched, but those that JAX itself makes."""

        @functools.wraps(original)
        def jit(*args: Any, **kwargs: Any) -> Any:
            jitted = original(*args, **kwargs)
            if _is_of(sys._getframe(1), _NOT_SCRIPTS):
                return jitted
            if not args and "fun" not in kwargs:  # a decorator with options
                return lambda fun: jit(fun, **kwargs)
            fun, options = (args[0] if args else kwargs["fun"]), {k: v for k, v in kwargs.items() if k != "fun"}
            return ScriptProgram(self, fun, jitted, options)

        return jit

    def _planned(self, original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
        """A function like `original` that makes planned gradients."""

        @functools.wraps(original)
        def ask(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            theirs = original(*args, **kwargs)
            if _is_of(frame, _OWN):
                return theirs
            place = _users_line(frame)
            if not args and not {"fun", "f"} & kwargs.keys():  # a decorator with options
                return lambda fun: self._function(fun, original(fun, **kwargs), ours, (fun,), kwargs, place)
            return self._function(args[0] if args else kwargs.get("fun", kwargs.get("f")), theirs, ours, args, kwargs, place)

        return ask

    def _function(
        self, fun: Any, theirs: Any, ours: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], place: str
    ) -> Callable[..., Any]:
        given = {k: v for k, v in kwargs.items() if k not in ("reduce_axes", "graph", "graph_updates")}
        if "f" in given:
            given["fun"] = given.pop("f")
        unknown = [k for k, v in kwargs.items() if k not in given and k != "f" and v not in (None, ())]

        @functools.wraps(theirs)
        def planned(*call: Any, **named: Any) -> Any:
            if _LEFT_ALONE.get() or not self.active:
                return theirs(*call, **named)
            if unknown or len(args) > 5:
                self._note(fun, place, f"ckptgrad has no {unknown[0] if unknown else 'reduce_axes'}")
                return theirs(*call, **named)
            plans: list[Plan] = []
            least = ""
            try:
                door = ours(*args, **given, **self.options)
                smallest = (
                    partial(ours, *args, **given, **{**self.options, "budget": "min"})
                    if is_share(self.options.get("budget"))
                    else None
                )
                with self.left_alone(), watching(plans.append):
                    if self.dry is not None and not is_traced(call, named):
                        return self._dry(fun, place, door, smallest, theirs, call, named)
                    try:
                        result = door(*call, **named)
                    except BudgetError as error:
                        if smallest is None:
                            raise
                        least = error.multiple or format_bytes(error.smallest)
                        result = smallest()(*call, **named)
            except BudgetError as error:
                self._note(fun, place, f"the smallest peak is {format_bytes(error.smallest)}")
                error.add_note(f"this is the gradient of {_name(fun)} that {place} asks for")
                raise
            except CkptgradError as error:
                reason = str(error).splitlines()[0]
            else:
                self._note(fun, place, plan=plans[0], least=least)
                return result
            self._note(fun, place, reason)
            return theirs(*call, **named)

        return planned

    def _dry(
        self,
        fun: Any,
        place: str,
        door: Any,
        smallest: Callable[[], Any] | None,
        theirs: Any,
        call: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Any:
        """Compile a gradient once for each line and types of arguments; the script goes on with JAX's own."""
        if (key := _types(place, call, named)) not in self._compiled:
            least = ""
            try:
                certified = door.compile(*call, **named)
            except BudgetError as error:
                if smallest is None:
                    raise
                least = error.multiple or format_bytes(error.smallest)
                certified = smallest().compile(*call, **named)
            self._note(fun, place, plan=certified.plan, certified_bytes=certified.peak_bytes, least=least)
            self._compiled_another(key)
        return theirs(*call, **named)

    def _note(
        self,
        fun: Any,
        place: str,
        left: str = "",
        plan: Plan | None = None,
        certified_bytes: int | None = None,
        least: str = "",
    ) -> None:
        call = GradientCall(_name(fun), place, left=left, least=least)
        if plan is not None:
            stages, repeated = len(plan.program.stages), plan.simulation.recomputations
            call = replace(call, peak_bytes=plan.peak_bytes, stages=stages, repeated=repeated)
            self._plans.setdefault(call, plan)
        calls = traced()
        if calls is None:
            self.count([call], certified_bytes=certified_bytes)
        else:
            calls.append(call)


def _name(fun: Any) -> str:
    """A function's name, and its line where that is the user's."""
    return name_of(fun) if "site-packages" in title(fun) else title(fun)


def _types(what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What tells calls apart that are compiled apart."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    return what, structure, tuple((getattr(leaf, "shape", ()), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves)


def _is_of(frame: Any, modules: Sequence[str]) -> bool:
    """Whether a line is one of these modules or of modules inside them."""
    name = str(frame.f_globals.get("__name__", ""))
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _users_line(frame: Any) -> str:
    """The nearest line that is not an installed library's."""
    nearest = frame
    while nearest is not None and "site-packages" in nearest.f_code.co_filename:
        nearest = nearest.f_back
    frame = nearest or frame
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
