"""What `%%ckptgrad` returns: a gradient that was run under a budget, its plan and its timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptgrad.doors.gradient import value_and_grad
from ckptgrad.doors.timeline import observe_compiled
from ckptgrad.notebook.calls import WrittenCall
from ckptgrad.report import registry
from ckptgrad.results.plan import Plan
from ckptgrad.results.shown import Shown
from ckptgrad.results.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType


@dataclass(frozen=True, repr=False)
class Profiled(Shown):
    """A value and its gradient, and where the memory went.

    Attributes:
        value: of the function; (value, aux) with has_aux.
        gradient: as `value_and_grad` returns it.
        plan: what was stored and recomputed.
        timeline: live bytes over the course of the gradient.
    """

    value: Any
    gradient: Any
    plan: Plan
    timeline: Timeline


@registry.parts.register(Profiled)
def parts(profiled: Profiled) -> Sequence[RenderableType]:
    """The tables of the plan and of the timeline."""
    return [*registry.parts(profiled.plan), *registry.parts(profiled.timeline)]


@registry.figures.register(Profiled)
def figures(profiled: Profiled) -> dict[str, Callable[..., Figure]]:
    """Those of the timeline."""
    return registry.figures(profiled.timeline)


def profile(call: WrittenCall, observe: Any, **options: Any) -> Profiled:
    """Compile the gradient of a call under a budget, run it, and observe it."""
    door = value_and_grad(call.function, allow_int=True, **options)
    certified = door.compile(*call.args, **call.kwargs)
    value, gradient = certified(*call.args, **call.kwargs)
    timeline = observe_compiled(door, certified, call.args, call.kwargs, observe)
    return Profiled(value, gradient, certified.plan, timeline)
