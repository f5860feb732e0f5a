"""`fit`: a whole training step within a device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

import jax

from ckptgrad.bytes import Budget, format_bytes, is_in_bytes, resolve_budget
from ckptgrad.doors.calling import check_keywords
from ckptgrad.doors.certify import certified, compile_whole, present_bytes
from ckptgrad.doors.fit_calls import PLAIN, FitCall, Planned, Recorder, plan_step
from ckptgrad.doors.step_call import JitOptions, Names, Places, StepCall, step_call
from ckptgrad.errors import BudgetError, OptionError, StepMemoryError
from ckptgrad.execution.compiled_step import CompiledStep
from ckptgrad.execution.search import fastest_within
from ckptgrad.execution.step_planner import planned_by
from ckptgrad.execution.trials import Trial
from ckptgrad.graph.naming import title
from ckptgrad.request import Request
from ckptgrad.results.plan import Plan
from ckptgrad.results.step_certificate import StepCertificate
from ckptgrad.results.step_plan import StepPlan
from ckptgrad.target.named import TargetChoice
from ckptgrad.target.named import target as named_target
from ckptgrad.target.target import Target

# Whole steps take long to compile: plans on the way down that are less than 1 % apart are not both tried.
RUNGS_APART = 3


def fit(
    step: Callable[..., Any],
    *args: Any,
    memory: Budget = "auto",
    donate_argnums: Places = None,
    donate_argnames: Names = None,
    static_argnums: Places = None,
    static_argnames: Names = None,
    in_shardings: Any = None,
    out_shardings: Any = None,
    target: TargetChoice = None,
    policy: str | Callable[..., Any] = "optimal",
    saveable: str | Callable[..., Any] | None = None,
    costs: str = "auto",
    **kwargs: Any,
) -> CompiledStep:
    """Compile a whole training step so that everything that a device holds for it is within its memory, certified.

    Inside `step`, gradients whose budget is "fit" (`value_and_grad`, `grad`, `vjp`, `checkpoint`) get what the rest of the
    step leaves: the fastest plans are taken with which arguments, results that are not written over donated arguments, and
    temporaries are within `memory` by XLA's buffer assignment. Several such calls are each planned within the same bytes,
    as calls that run one after another may be; the certificate is that of the whole in any case. A larger memory never
    gives a slower plan where XLA takes about what is predicted.

    Args:
        step: the user's function: gradients, an optimizer, metrics, whatever.
        *args, **kwargs: its arguments; ShapeDtypeStructs are enough.
        memory: bytes of one device for all of it: an int, "16GiB"; "auto": what the target has, of an attached one what is
            free now and what these arguments take already; None: whatever the fastest plans need.
        donate_argnums, donate_argnames, static_argnums, static_argnames, in_shardings, out_shardings: as `jax.jit` takes
            them. A function that is jitted already keeps its own.
        target: what it is compiled for, as for `value_and_grad`; None: what is attached.
        policy, saveable, costs: as for `value_and_grad`, of those gradients whose budget is "fit" that do not say it
            themselves.

    Returns:
        The compiled step: call it as `step`; `print` it for the table of what takes the memory. `.peak_bytes` is everything
        that the device holds, `.plan` (or `.plans`) what is stored and recomputed, `.certificate` the table as data.

    Raises:
        StepMemoryError: a BudgetError: no plans are within the memory; it says what takes how much, and what would help.
        OptionError: options that do not fit the arguments, or memory that is not a number of bytes.
        ScheduleError: the function is another one when it is traced again.

    Example:
        >>> import jax.numpy as jnp, ckptgrad as cg
        >>> def step(w, x):
        ...     loss, gradient = cg.value_and_grad(lambda w: jnp.mean(jnp.tanh(x @ w) ** 2), budget="fit")(w)
        ...     return w - 0.1 * gradient, loss
        >>> fitted = cg.fit(step, jnp.eye(64), jnp.ones((64, 64)), memory="1MiB", donate_argnums=0)
        >>> fitted.peak_bytes <= 2**20
        True
        >>> w, loss = fitted(jnp.eye(64), jnp.ones((64, 64)))
    """
    check_keywords(fit, step, kwargs)
    options = JitOptions(donate_argnums, donate_argnames, static_argnums, static_argnames, in_shardings, out_shardings)
    asked = Request(policy=policy, saveable=saveable, costs=costs)
    return fit_call(step_call(step, args, kwargs, options), memory, named_target(target), asked)


def fit_call(call: StepCall, memory: Budget, target: Target, asked: Request = PLAIN) -> CompiledStep:
    """As `fit`, of a call; `asked`: of gradients that leave it open."""
    limit = memory_bytes(call, memory, target)
    calls = _recorded(call, Recorder(asked=asked))
    if not calls:
        whole = compile_whole(call, target)
        found = replace(whole, certificate=replace(whole.certificate, limit=limit))
        if limit is not None and found.peak_bytes > limit:
            raise _too_large(call, found.certificate, limit, planned=False)
        return found
    return _Search(call, calls, target, limit, asked).found()


def _recorded(call: StepCall, recorder: Recorder) -> tuple[FitCall, ...]:
    jax.eval_shape(call.under(partial(planned_by, recorder)), *call.args, **call.kwargs)
    return tuple(recorder.calls)


def memory_bytes(call: StepCall, memory: Budget, target: Target) -> int | None:
    """Memory as `fit` takes it, in bytes; what is free now, and what the arguments of the call take already, if "auto".

    Raises:
        BudgetFormatError, OptionError: it is not a number of bytes.
    """
    if isinstance(memory, str) and not is_in_bytes(memory):
        raise OptionError(f"memory={memory!r} must be bytes of a device: an int, '16GiB', 'auto', or None for no limit")
    return resolve_budget(memory, _no_share, _no_share, lambda: target.free_bytes() + present_bytes(call, target))


def _no_share() -> int:
    raise OptionError("the memory of a step must be a number of bytes")


class _Search:
    """The search for the plans of one step."""

    def __init__(
        self, call: StepCall, calls: tuple[FitCall, ...], target: Target, limit: int | None, asked: Request
    ) -> None:
        self._call, self._calls, self._target, self._limit, self._asked = call, calls, target, limit, asked

    def found(self) -> CompiledStep:
        """The fastest plans that fit.

        What the step holds around its gradients is read from the fastest plans, which are compiled first: no aim depends
        on the memory, so that a larger one may use every plan that a smaller one may.
        """
        fastest = self._searched(0, None)
        limit = self._limit
        if limit is None or fastest.peak_bytes <= limit:
            return fastest
        arguments = fastest.certificate.argument_bytes
        beyond = fastest.peak_bytes - arguments
        around = max(0, beyond - max(plan.peak_bytes for plan in fastest.plans))
        if any(c.is_worth_chunking(max(1, limit - arguments - around)) for c in self._calls):
            self._calls = _recorded(self._call, Recorder(chunks=True, asked=self._asked))
        try:
            within = self._searched(around, max(1, limit - arguments))
        except BudgetError as error:
            smallest = self._searched(around, error.smallest)
            raise _too_large(self._call, smallest.certificate, limit) from None
        return replace(within, rounds=within.rounds + fastest.rounds)

    def _searched(self, around: int, budget: int | None) -> CompiledStep:
        optimal = all(call.request.policy == "optimal" for call in self._calls)
        found = fastest_within(
            partial(self._build, around),
            self._call.args,
            self._call.kwargs,
            budget,
            inf,
            may_open=optimal,
            may_be_uniform=optimal,
            apart=RUNGS_APART,
        )
        assert found is not None
        return self._certified(*found)

    def _build(
        self, around: int, limit: int | None, fenced: bool = True, policy: str | None = None, called: bool = False
    ) -> tuple[StepPlan, Any]:
        plan = plan_step(self._calls, around, limit, fenced, policy, called)
        return plan, self._call.under(partial(_planned, title(self._call.fun), plan.parts, self._asked))

    def _certified(self, trial: Trial[StepPlan], rounds: int) -> CompiledStep:
        program = trial.program
        return certified(
            self._call,
            self._target,
            program.lowered,
            program.executable,
            program.memory,
            trial.plan.parts,
            self._limit,
            rounds,
        )


@contextmanager
def _planned(function: str, plans: tuple[Plan, ...], asked: Request) -> Iterator[None]:
    planned = Planned(function, plans, asked)
    with planned_by(planned):
        yield
    planned.check_all_used()


def _too_large(call: StepCall, certificate: StepCertificate, limit: int, planned: bool = True) -> StepMemoryError:
    """The error of a step that does not fit: what takes how much, and what would help."""
    taken = [f"{name.strip()} {format_bytes(held)}" for name, held, _ in certificate.rows() if held]
    remedies: list[str] = []
    if certificate.donation:
        remedies.append(certificate.donation)
    if not planned:
        remedies.append(
            "plan its gradient, as nothing in it is planned: ckptgrad.value_and_grad(..., budget='fit') inside the step"
        )
    largest = max(certificate.of_arguments().items(), key=lambda item: item[1][0], default=None)
    if certificate.temporary_bytes >= certificate.argument_bytes:
        remedies.append("a smaller batch, as temporaries take most of it")
    elif largest is not None:
        remedies.append(f"fewer bytes of {largest[0]}: a narrower dtype, or shardings over more devices (in_shardings)")
        remedies.append("a smaller batch")
    return StepMemoryError(title(call.fun), limit, certificate, taken, remedies)
