"""`timeline`: where the memory of a gradient goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ckptgrad.bytes import Budget
from ckptgrad.chain.program import Program
from ckptgrad.doors.calling import check_keywords
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.doors.modules import open_modules
from ckptgrad.execution.certified import Certified
from ckptgrad.execution.observed import run_observed
from ckptgrad.graph.naming import name_of
from ckptgrad.meters.meter import Reading, Subject, get_meters
from ckptgrad.planning.schedule import Schedule
from ckptgrad.request import Request
from ckptgrad.results.predicted import within_layer
from ckptgrad.results.timeline import Timeline, places
from ckptgrad.target.named import TargetChoice


def timeline(
    fun: Callable,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    budget: Budget = None,
    policy: str | Callable | Schedule = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    target: TargetChoice = None,
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
    observe: str | Sequence[str] = ("xla",),
    **kwargs: Any,
) -> Timeline:
    """Live bytes over the course of the gradient of `fun`: predicted by the plan, and observed.

    Args:
        fun, *args, **kwargs: the function and its arguments; ShapeDtypeStructs are enough for meters that do not run it.
        argnums, has_aux, budget, policy, saveable, costs, target, encodings, chunks: as for `value_and_grad`.
        observe: names of meters: "xla" (the certified program's buffers, without running it), "ledger" (arrays held
            stage by stage), "resident" (memory-profiler on a fresh process), "device" (its counters); "all"; or () for
            the prediction alone, which compiles nothing.

    Returns:
        A Timeline: `print` it, show it in a notebook, `plot()` it, or read `alive`, what is held at the peak.

    Raises:
        BudgetError: the budget is below what is feasible.
        OptionError: a meter is unknown.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> course = cg.timeline(lambda x: jnp.sum(jnp.tanh(jnp.sin(x) @ x) @ x), jnp.ones((64, 64)))
        >>> course.readings["xla"].bytes >= course.alive[0].bytes
        True
    """
    check_keywords(timeline, fun, kwargs)
    fun, args, kwargs = open_modules(fun, args, kwargs)
    meters = get_meters(observe)
    request = Request(
        argnums,
        has_aux,
        allow_int=True,
        budget=budget,
        policy=policy,
        saveable=saveable,
        costs=costs,
        target=target,
        encodings=encodings,
        chunks=chunks,
    )
    door = GradientFunction(fun, request, with_value=True)
    if not meters:
        return door.plan(*args, **kwargs).timeline(name_of(fun))
    return observe_compiled(door, door.compile(*args, **kwargs), args, kwargs, observe)


def observe_compiled(
    door: GradientFunction,
    certified: Certified,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    observe: str | Sequence[str],
) -> Timeline:
    """The timeline of a gradient that is compiled already, as `timeline` returns it."""
    plan = certified.plan
    predicted = replace(
        plan.timeline(name_of(door.fun)),
        budget=certified.budget,
        least=door.request.asks_for_least,
        budget_source=certified.budget_source,
    )

    def staged(observer: Callable[[Sequence[Any]], None]) -> None:
        traced = door.chain_of(plan, *args, **kwargs)
        run_observed(traced.program, traced.call.leaves, plan.schedule, observer)

    split = door.split(args, kwargs)
    subject = Subject(
        certified.executable, plan.program.target, split.args, split.kwargs, places(predicted, plan.schedule), staged
    )
    readings = {meter.name: meter(subject) for meter in get_meters(observe)}
    return replace(predicted, readings={name: _within_layers(r, plan.program) for name, r in readings.items()})


def _within_layers(reading: Reading, program: Program) -> Reading:
    """A reading whose buffers say in which layer they were made."""
    alive = (replace(b, source=within_layer(b.source, program, b.stage)) for b in reading.alive)
    return replace(reading, alive=tuple(alive))
