"""How planning, compiling, memory and time grow with the depth of a chain and with the length of a loop."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import jax
import psutil
from jax.stages import Compiled

import ckptgrad as cg
from ckptgrad.bench.measure import compile_for, forget_compilations
from ckptgrad.bench.recurrent import arguments, output_bytes, scan_loss, state_bytes
from ckptgrad.bench.registry import Bench, Curves, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.bytes import Budget, format_bytes
from ckptgrad.errors import BudgetError
from ckptgrad.example_models import tanh_chain
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.validation.timing import alternate

CAP_SECONDS = 420  # a size expected to take longer is left out
RAM_SHARE = 0.4  # a program that needs a larger share of the machine's memory is compiled but not run
PANELS = ("plan_seconds", "compile_seconds", "certified_bytes", "run_seconds")

DEPTHS = (10, 30, 100, 300, 1000, 3000)
LENGTHS = tuple(10**k for k in range(2, 7))
ROUNDS = 3
WARM = 100  # layers of a chain that is planned first, so that the planner's compiled loops are loaded


Setting: TypeAlias = tuple[Callable, tuple[Any, ...], dict[str, Budget]]  # a loss, its arguments, and budgets by name


class Cap:
    """Which sizes to leave out, extrapolated from the two sizes before."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._history: dict[str, list[tuple[int, float]]] = {}

    def note(self, run: str, size: int, seconds: float) -> None:
        """Record how long a run took at a size."""
        self._history.setdefault(run, []).append((size, seconds))

    def reason(self, run: str, size: int) -> str:
        """Why the size is left out; empty if it is not."""
        history = self._history.get(run, [])
        if len(history) < 2:
            return ""
        (previous, previous_seconds), (last, last_seconds) = history[-2:]
        power = max(1.0, math.log(last_seconds / previous_seconds) / math.log(last / previous))
        expected = last_seconds * (size / last) ** power
        if expected <= self.seconds:
            return ""
        took, limit = f"{last:,} took {last_seconds:,.0f} s", f"{self.seconds:,.0f} s"
        return f"{took}, so this would take about {expected:,.0f} s, more than {limit}"


@case("depth", "Deeper and deeper: 10 to 3,000 unrolled layers", curves=Curves("layers", PANELS))
def depth(bench: Bench) -> Iterator[Row]:
    """Residual tanh layers, 1024 x 32. "Plan" is tracing, cutting and planning with empty caches; "compile" is all of
    `.compile`, planning included, or jax.grad's tracing and compiling; "run" is the median of a few interleaved calls.
    """
    width, batch = 32, 1024
    budgets: dict[str, Budget] = {f"budget {share}": share for share in ("0.25x", "0.1x")}

    def at(layers: int) -> Setting:
        return *tanh_chain(layers=layers, width=width, batch=batch), budgets

    yield from scaling(bench, "layers", bench.size(DEPTHS, (10, 20)), at, {})


@case("length", "Longer and longer: a scan of 100 to 1,000,000 steps", curves=Curves("steps", PANELS))
def length(bench: Bench) -> Iterator[Row]:
    """A recurrent cell of 8 x 32. Columns are those of `depth`; the budgets are 512 and 64 states plus the outputs."""
    width, batch = 32, 8
    args = arguments(width, batch)
    budgets: dict[str, Budget] = {
        f"budget of {n} states": n * state_bytes(width, batch) + output_bytes(args) for n in (512, 64)
    }

    def at(steps: int) -> Setting:
        return scan_loss(steps), args, budgets

    yield from scaling(bench, "steps", bench.size(LENGTHS, (16, 64)), at, {"argnums": (0, 1, 2)})


def scaling(
    bench: Bench,
    unit: str,
    sizes: tuple[int, ...],
    at: Callable[[int], Setting],
    options: dict[str, Any],
) -> Iterator[Row]:
    """jax.grad and each budget, at each size.

    Args:
        bench: how the case is asked to run.
        unit: what a size counts.
        sizes: in increasing order.
        at: the setting of a size.
        options: further options of `value_and_grad`, ours and JAX's.
    """
    cap = Cap(CAP_SECONDS)
    bench.announce("warming the planner")
    warm_loss, warm_args = tanh_chain(layers=WARM, width=8, batch=64)
    cg.plan(warm_loss, *warm_args, budget="0.5x")
    for size in sizes:
        group = f"{size:,} {unit}"
        loss, args, budgets = at(size)
        programs: dict[str, Compiled] = {}
        values_by_run: dict[str, dict[str, Any]] = {}
        for run, budget in ({"jax.grad": None} | budgets).items():
            bench.announce(f"{group}: {run}")
            reason = cap.reason(run, size)
            if reason:
                values_by_run[run] = {"skipped": reason}
                continue
            start = time.perf_counter()
            try:
                programs[run], values_by_run[run] = plan_and_compile(run == "jax.grad", loss, args, budget, options)
            except BudgetError as error:
                below = f"{format_bytes(error.budget)} is less than the smallest possible, {format_bytes(error.smallest)}"
                values_by_run[run] = {"skipped": below}
            cap.note(run, size, time.perf_counter() - start)
        bench.announce(f"{group}: times")
        limit = RAM_SHARE * psutil.virtual_memory().total
        runnable = {run: p for run, p in programs.items() if compiled_memory(p).peak_bytes <= limit}
        seconds = alternate([partial(p, *args) for p in runnable.values()], bench.size(ROUNDS, 1))
        medians = dict(zip(runnable, map(statistics.median, seconds), strict=True))
        for run, values in values_by_run.items():
            if run in programs and run not in medians:
                values["note"] = f"compiled but not run: more than {RAM_SHARE:.0%} of the memory"
            yield row(run, group, **{unit: size}, **values, run_seconds=medians.get(run))


def plan_and_compile(
    by_jax: bool, loss: Callable, args: tuple[Any, ...], budget: Budget, options: dict[str, Any]
) -> tuple[Compiled, dict[str, Any]]:
    """The executable, and how long planning and compiling took."""
    forget_compilations()
    start = time.perf_counter()
    if by_jax:
        executable = compile_for(jax.value_and_grad(loss, **options), args)
        values: dict[str, Any] = {"compile_seconds": time.perf_counter() - start}
    else:
        door = cg.value_and_grad(loss, budget=budget, **options)
        plan = door.plan(*args)
        values = {"plan_seconds": time.perf_counter() - start}
        forget_compilations()
        start = time.perf_counter()
        certified = door.compile(*args)
        values |= {"compile_seconds": time.perf_counter() - start, "plans_compiled": certified.rounds}
        values |= {"budget_bytes": certified.budget, "predicted_bytes": plan.peak_bytes}
        executable = certified.executable
    return executable, values | {"certified_bytes": compiled_memory(executable).peak_bytes}
