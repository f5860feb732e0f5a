"""The gradient functions of JAX and of Flax NNX, replaced by planned ones while a script runs.

`jax.grad` and `jax.value_and_grad` are replaced before the script imports anything, so that `from jax import grad` and
libraries that call them (Equinox's `filter_grad`, Flax's training helpers) are planned as well; those of `flax.nnx` as soon
as it is imported. What JAX itself, Flax NNX's own functions and ckptgrad ask for is left as it is, and so is what cannot be
planned: the report says why.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from importlib.abc import MetaPathFinder
from typing import Any

import jax

from ckptgrad.doors import gradient
from ckptgrad.doors.watching import watching
from ckptgrad.errors import BudgetError, CkptgradError
from ckptgrad.graph.naming import title
from ckptgrad.libraries import nnx
from ckptgrad.results.plan import Plan
from ckptgrad.results.script_run import GradientCall

_NAMES = ("grad", "value_and_grad")
_NNX = "flax.nnx"
# Whose own calls are not the script's.
_OWN = ("jax", "jaxlib", "ckptgrad", _NNX)
# Whether a planned gradient is being computed: one inside it is part of its function.
_INSIDE: ContextVar[bool] = ContextVar("inside", default=False)


class PlannedGradients:
    """Gradients that a script asks for, planned with the same options.

    Args:
        options: of `ckptgrad.value_and_grad`: budget, policy, costs.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self._calls: dict[GradientCall, int] = {}

    @property
    def calls(self) -> tuple[GradientCall, ...]:
        """What was asked for so far."""
        return tuple(replace(call, times=times) for call, times in self._calls.items())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the functions meanwhile."""
        finder = _AfterImport(_NNX, lambda: self._replace(sys.modules[_NNX], nnx, restored))
        restored: list[tuple[Any, str, Any]] = []
        self._replace(jax, gradient, restored)
        if _NNX in sys.modules:
            self._replace(sys.modules[_NNX], nnx, restored)
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for module, name, original in reversed(restored):
                setattr(module, name, original)

    def _replace(self, module: Any, ours: Any, restored: list[tuple[Any, str, Any]]) -> None:
        for name in _NAMES:
            original = getattr(module, name)
            restored.append((module, name, original))
            setattr(module, name, self._planned(original, getattr(ours, name)))

    def _planned(self, original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
        """A function like `original` that makes planned gradients."""

        @functools.wraps(original)
        def ask(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            module = str(frame.f_globals.get("__name__", ""))
            theirs = original(*args, **kwargs)
            if any(module == own or module.startswith(f"{own}.") for own in _OWN):
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
            if _INSIDE.get():
                return theirs(*call, **named)
            if unknown or len(args) > 5:
                self._note(fun, place, f"ckptgrad has no {unknown[0] if unknown else 'reduce_axes'}")
                return theirs(*call, **named)
            plans: list[Plan] = []
            token = _INSIDE.set(True)
            try:
                with watching(plans.append):
                    result = ours(*args, **given, **self.options)(*call, **named)
            except BudgetError:
                raise
            except CkptgradError as error:
                reason = str(error).splitlines()[0]
            else:
                self._note(fun, place, plan=plans[0])
                return result
            finally:
                _INSIDE.reset(token)
            self._note(fun, place, reason)
            return theirs(*call, **named)

        return planned

    def _note(self, fun: Any, place: str, left: str = "", plan: Plan | None = None) -> None:
        call = GradientCall(title(fun), place, left=left)
        if plan is not None:
            stages, repeated = len(plan.program.stages), plan.simulation.recomputations
            call = replace(call, peak_bytes=plan.peak_bytes, stages=stages, repeated=repeated)
        self._calls[call] = self._calls.get(call, 0) + 1


def _users_line(frame: Any) -> str:
    """The nearest line that is not an installed library's."""
    nearest = frame
    while nearest is not None and "site-packages" in nearest.f_code.co_filename:
        nearest = nearest.f_back
    frame = nearest or frame
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _AfterImport(MetaPathFinder):
    """Calls a function when a module has been imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self.name, self.then, self._finding = name, then, False

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name or self._finding:
            return None
        self._finding = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._finding = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_then(module: Any) -> None:
            execute(module)
            self.then()

        spec.loader.exec_module = execute_then  # type: ignore[method-assign]
        return spec
