"""`validate`: the gradient of one function, computed in all ways and compared side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from ckptgrad.bytes import Budget
from ckptgrad.doors.calling import check_keywords
from ckptgrad.doors.gradient import GradientFunction, value_and_grad
from ckptgrad.doors.modules import open_modules
from ckptgrad.doors.tracing import TracedChain
from ckptgrad.errors import BudgetError, OptionError, ReferenceTypeError, ValidationError
from ckptgrad.graph.naming import name_of
from ckptgrad.meters.meter import Meter, Reading, Subject, get_meters
from ckptgrad.planning.schedule import Schedule
from ckptgrad.results.advice.advice import Advice
from ckptgrad.results.outcomes import OUTCOMES, Outcome
from ckptgrad.results.plan import Plan
from ckptgrad.results.validation import Row, Validation
from ckptgrad.rules.borrowed import borrowed_in
from ckptgrad.stage.encodings.encoding import largest_error
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target
from ckptgrad.validation.compare import difference
from ckptgrad.validation.locate import Located, locate_wrong
from ckptgrad.validation.reference import checkpointed, plain
from ckptgrad.validation.timing import alternate, median_ratio

Policy = str | Callable | Schedule

# The policies of a validation that names none: the planner's own and, with a budget, the classics to compare it with.
DEFAULT = ("optimal",)
DEFAULT_WITH_BUDGET = ("optimal", "sqrt", "revolve")


@dataclass(frozen=True)
class _Compiled:
    """An unfinished row, its compiled program, the budget in bytes that it keeps, the plan behind it, and what the budget is
    taken from."""

    row: Row
    executable: Any
    budget: int | None = None
    plan: Plan | None = None
    budget_source: str = ""

    def advise(self) -> tuple[Advice, ...]:
        """What its plan suggests to do."""
        return () if self.plan is None else self.plan.advice

    @property
    def tolerance(self) -> float | None:
        """The largest relative difference allowed of the gradient of a plan that keeps inexact values, which their encodings
        state; None for that of its dtype."""
        return None if self.plan is None or self.plan.is_exact else largest_error(self.plan.encodings)


def validate(
    fun: Callable,
    *args: Any,
    budget: Budget = None,
    policies: Sequence[Policy] | None = None,
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    repeats: int = 5,
    meters: str | Sequence[str] = ("resident",),
    tolerance: float | None = None,
    locate: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
    costs: str = "auto",
    saveable: str | Callable[..., Any] | None = None,
    target: TargetChoice = None,
    encodings: Sequence[str] | str | None = "auto",
    chunks: bool | str | Sequence[str] = "auto",
    runtime: str = "compiled",
    tiers: Sequence[str] | str = (),
    **kwargs: Any,
) -> Validation:
    """Compare ckptgrad's gradient of `fun` with `jax.grad` and `jax.checkpoint`: result, peak, time.

    Args:
        fun: a function that returns a scalar, or (scalar, aux) with `has_aux`.
        *args, **kwargs: its arguments; concrete, because everything is run, unless `target` says otherwise.
        budget: as for `value_and_grad`; binds the policies.
        policies: names, functions or Schedules, one row for each; by default "optimal" and, with a budget, "sqrt" and
            "revolve".
        argnums, has_aux: as for `value_and_grad`.
        repeats: the number of rounds of timing, at least 1.
        meters: what to measure with besides XLA's buffer assignment: "resident" (a fresh process for each row, some
            seconds each), "device"; "all", or () for none, as where several processes validate together.
        tolerance: the largest relative difference allowed, by default that of each dtype
            (`validation.compare.TOLERANCES`).
        locate: whether to find the stage, operation and line where a gradient goes wrong. Then rules of
            `jax.custom_vjp` and `jax.custom_jvp` are also compared with the derivatives of their functions. Rules that
            differ on purpose fail: straight-through estimators, gradient clipping, approximations cruder than
            `tolerance`. Operations are run one by one, with every boundary kept.
        on_progress: called with what is being done, steps done and steps in total.
        costs, saveable: as for `value_and_grad`, for every policy.
        target: what is compiled for, as `ckptgrad.target` takes it. Where that is not attached nothing is run: the table has
            bytes, no times and no gradients, and arguments may be ShapeDtypeStructs.
        encodings: as for `value_and_grad`. The gradient of a plan that keeps inexact values may differ by `tolerance` or, by
            default, by what its encodings state (`Encoding.error`); how much it does is in the table, and from then on in
            the plan.
        chunks: as for `value_and_grad`.
        runtime, tiers: as for `value_and_grad`, for every policy. What runs stage by stage is certified by its account, and
            no fresh process can be given it: "resident" says so.

    Returns:
        A Validation. A policy that cannot meet the budget has a row that says so; with `locate` its `findings` say
        where it goes wrong.

    Raises:
        ValidationError: a gradient or value differs, a certified peak breaks the budget, or with `locate` a custom rule
            is not the derivative of its function; the table is its attribute `validation`.
        BudgetError: no policy can meet the budget.
        GradientTypeError, BudgetFormatError, OptionError, TierError: as from `value_and_grad`.
        ReferenceTypeError: the function writes a mutable reference from outside, so that no two runs compute the same.

    Example:
        >>> import jax.numpy as jnp
        >>> table = validate(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(4), meters=())
        >>> table.passed
        True
    """
    check_keywords(validate, fun, kwargs)
    fun, args, kwargs = open_modules(fun, args, kwargs)
    policies, compiled_for = _chosen(policies, budget), named_target(target)
    _check_options(repeats, locate, compiled_for)
    observers = [m for m in get_meters(meters) if m.name != "xla" and compiled_for.attached]
    if observers:
        _check_observed(args, kwargs)
    steps = _Steps(on_progress, (2 + len(policies)) * (1 + bool(observers)) + 1 + locate)
    options = {
        "budget": budget,
        "costs": costs,
        "saveable": saveable,
        "target": target,
        "encodings": encodings,
        "chunks": chunks,
        "runtime": runtime,
        "tiers": tiers,
    }
    call = _opened(fun, args, kwargs, argnums, has_aux, policies, options)
    result = _Run(call, compiled_for, repeats, observers, tolerance, steps).validation(locate)
    if not result.passed:
        raise ValidationError("; ".join(result.failures), result)
    return result


def _check_observed(args: Any, kwargs: Any) -> None:
    """OptionError where meters would have to observe several processes."""
    if any(isinstance(x, jax.Array) and not x.is_fully_addressable for x in jax.tree.leaves((args, kwargs))):
        raise OptionError("meters observe one process, and the arguments lie on several; leave them out: meters=()")


def _check_options(repeats: int, locate: bool, target: Target) -> None:
    """OptionError for what cannot be done, or not on this target."""
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise OptionError(f"repeats={repeats!r}: time at least 1 round")
    if locate and not target.attached:
        raise OptionError(f"locate=True runs the function, and {target} is not attached to this process")


@dataclass(frozen=True)
class _Call:
    """The call whose gradients are compared, as a function of what is traced, and a door per policy.

    Attributes:
        fun, args, kwargs: the call without what is not traced; compiled references and meters take nothing else.
        argnums, has_aux: as for `value_and_grad`.
        doors: by policy, in order; the name of the policy and its gradient function.
        traced: the call as the doors trace it.
    """

    fun: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: int | Sequence[int]
    has_aux: bool
    doors: Sequence[tuple[str, GradientFunction]]
    traced: TracedChain


def _opened(
    fun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
    policies: Sequence[Policy],
    options: dict[str, Any],
) -> _Call:
    """The call with its doors, which have these options.

    Raises:
        ReferenceTypeError: the function writes a mutable reference from outside.
    """
    split = value_and_grad(fun, argnums, has_aux).split(args, kwargs)
    doors = [
        (_name_of(p), value_and_grad(split.fun, argnums, has_aux, policy=p, allow_int=True, **options)) for p in policies
    ]
    traced = doors[0][1].trace(*split.args, **split.kwargs)
    if traced.returned.references:
        raise ReferenceTypeError(
            problem=f"{name_of(split.fun)} writes a mutable reference from outside, so that no run repeats another"
        )
    return _Call(split.fun, split.args, split.kwargs, argnums, has_aux, doors, traced)


def _chosen(policies: Sequence[Policy] | Policy | None, budget: Budget) -> Sequence[Policy]:
    """The policies to compare: those that are named, one or several, or the default ones.

    Raises:
        OptionError: the sequence is empty.
    """
    if policies is None:
        return DEFAULT if budget is None else DEFAULT_WITH_BUDGET
    if isinstance(policies, (str, Schedule)) or callable(policies):
        return [policies]
    if not policies:
        raise OptionError("policies is empty; name at least one, or leave it out")
    return policies


def _infeasible(name: str, error: BudgetError) -> Row:
    return Row(name, reason="cannot meet the budget", smallest_peak_bytes=error.smallest)


@dataclass
class _Steps:
    """Tells a listener what is being done."""

    listener: Callable[[str, int, int], None] | None
    total: int
    done: int = 0

    def next(self, what: str) -> None:
        if self.listener is not None:
            self.listener(what, min(self.done, self.total), self.total)
        self.done += 1


@dataclass(frozen=True)
class _Run:
    """How the programs of a call are compiled, observed and compared."""

    call: _Call
    target: Target
    repeats: int
    meters: Sequence[Meter]
    tolerance: float | None
    steps: _Steps

    def validation(self, locate: bool) -> Validation:
        """The whole comparison.

        Raises:
            BudgetError: no policy can meet the budget.
        """
        attempts = [self.compile_policy(door, name) for name, door in self.call.doors]
        compiled = [a for a in attempts if isinstance(a, _Compiled)]
        if not compiled:
            raise next(a for a in attempts if isinstance(a, BudgetError))
        references, traced = self.references(), self.call.traced
        rows = self.table(references, attempts)
        result = Validation(
            name_of(self.call.fun),
            tuple(rows),
            compiled[0].budget,
            self.repeats if self.target.attached else 0,
            self.tolerance,
            tuple(borrowed_in(traced.program.graph)),
            least=self.call.doors[0][1].request.asks_for_least,
            target=str(self.target),
            devices=traced.program.devices,
            arguments=traced.program.argument_bytes,
            advise=compiled[0].advise,
            budget_source=compiled[0].budget_source,
        )
        if locate:
            located = self.locate(references[0], rows[len(references) :])
            result = replace(result, findings=located.findings, checked=located.checked)
        return result

    def references(self) -> list[_Compiled]:
        """The programs of JAX that the others are compared with; the first is `jax.grad`'s."""
        call = self.call
        return [
            self.compile_reference(plain(call.fun, call.argnums, call.has_aux), "jax.grad"),
            self.compile_reference(checkpointed(call.traced, call.argnums), "jax.checkpoint"),
        ]

    def table(self, references: Sequence[_Compiled], attempts: Sequence[_Compiled | BudgetError]) -> list[Row]:
        """The rows of the references and of all policies, those that cannot meet the budget among them."""
        measured = iter(self.measure([*references, *(a for a in attempts if isinstance(a, _Compiled))]))
        rows = [next(measured) for _ in references]
        for (name, _), attempt in zip(self.call.doors, attempts, strict=True):
            rows.append(_infeasible(name, attempt) if isinstance(attempt, BudgetError) else next(measured))
        return rows

    def compile_reference(self, fun: Callable[..., Any], name: str) -> _Compiled:
        self.steps.next(f"compiling {name}")
        executable = self.target.compile(self.target.lower(jax.jit(fun), *self.call.args, **self.call.kwargs))
        temporaries = self.target.allocated(executable).temporary_bytes
        return _Compiled(Row(name, certified_temporary_bytes=temporaries), executable)

    def compile_policy(self, door: GradientFunction, name: str) -> _Compiled | BudgetError:
        self.steps.next(f"compiling {name}")
        try:
            certified = door.compile(*self.call.args, **self.call.kwargs)
        except BudgetError as error:
            return error
        row = Row(
            name,
            predicted_peak_bytes=certified.plan.peak_bytes,
            certified_temporary_bytes=certified.temporary_bytes,
            encodings=certified.plan.encodings,
        )
        return _Compiled(row, certified.executable, certified.budget, certified.plan, certified.budget_source)

    def measure(self, programs: Sequence[_Compiled]) -> list[Row]:
        """Rows with peaks read and, where they can be run, results compared and times taken; the first is the reference."""
        rows = [replace(p.row, readings={"xla": Reading(self.target.allocated(p.executable).peak_bytes)}) for p in programs]
        return self._observed(programs, rows) if self.target.attached else rows

    def locate(self, reference: _Compiled, rows: Sequence[Row]) -> Located:
        """Where the gradient goes wrong, given the rows of the policies; the reference is `jax.grad`."""
        self.steps.next("locating")
        differing = [row.name for row in rows if row.gradient and row.gradient.excess > 1]
        gradient = reference.executable(*self.call.args, **self.call.kwargs)[1] if differing else None
        return locate_wrong(self.call.traced, self.tolerance, gradient, differing)

    def _observed(self, programs: Sequence[_Compiled], rows: list[Row]) -> list[Row]:
        rows = self._compared(programs, rows)
        for k, program in enumerate(programs):
            if self.meters:
                self.steps.next(f"measuring {program.row.name}")
            subject = Subject(program.executable, self.target, self.call.args, self.call.kwargs)
            readings = {meter.name: meter(subject) for meter in self.meters}
            rows[k] = replace(rows[k], readings={**rows[k].readings, **readings})
        self.steps.next("timing")
        seconds = alternate([partial(p.executable, *self.call.args, **self.call.kwargs) for p in programs], self.repeats)
        return [
            replace(row, seconds=statistics.median(own), time_ratio=median_ratio(own, seconds[0]))
            for row, own in zip(rows, seconds, strict=True)
        ]

    def _compared(self, programs: Sequence[_Compiled], rows: Sequence[Row]) -> list[Row]:
        reference_value, reference_gradient = programs[0].executable(*self.call.args, **self.call.kwargs)
        compared: list[Row] = []
        for program, row in zip(programs, rows, strict=True):
            value, gradient = program.executable(*self.call.args, **self.call.kwargs)
            allowed = program.tolerance if self.tolerance is None else self.tolerance
            gradient_differs = difference(gradient, reference_gradient, allowed)
            if program.plan is not None and not program.plan.is_exact:
                _remember(program.plan, program.row, gradient_differs.relative)
            value_differs = difference(value, reference_value, self.tolerance)
            compared.append(replace(row, gradient=gradient_differs, value=value_differs))
        return compared


def _remember(plan: Plan, row: Row, error: float) -> None:
    """State a gradient's measured error with its plan from now on."""
    found, certified = plan.found, row.certified
    if plan.fenced and (found or certified):
        outcome = found or Outcome(certified.bytes if certified and certified.bytes else 0)
        OUTCOMES.put(plan.program, plan.schedule, replace(outcome, gradient_error=error))


def _name_of(policy: Policy) -> str:
    if isinstance(policy, str):
        return policy
    return policy.policy if isinstance(policy, Schedule) else name_of(policy)
