"""How planning, compiling, memory and time grow with the depth of a chain and with the length of a loop."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import psutil

import ckptgrad as cg
from ckptgrad.bench.measure import cold, compiled
from ckptgrad.bench.models import tanh_chain
from ckptgrad.bench.recurrent import arguments, output_bytes, recurrent, state_bytes
from ckptgrad.bench.registry import Bench, Curves, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.bytes import format_bytes
from ckptgrad.errors import BudgetError
from ckptgrad.meters.xla import compiled_memory
from ckptgrad.validation.timing import alternate

CAP_SECONDS = 420  # a size that is expected to take longer is left out
RAM_SHARE = 0.4  # so is running a program that needs more of the machine's memory
PANELS = ("plan_seconds", "compile_seconds", "certified_bytes", "run_seconds")

DEPTHS = (10, 30, 100, 300, 1000, 3000)
LENGTHS = tuple(10**k for k in range(2, 7))
ROUNDS = 3
WARM = 100  # layers of a chain planned before, after which the planner's compiled loops are loaded


class Cap:
    """Which sizes to leave out, judged by what the sizes before took."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.taken: dict[str, list[tuple[int, float]]] = {}

    def note(self, run: str, size: int, seconds: float) -> None:
        """What a run took at a size."""
        self.taken.setdefault(run, []).append((size, seconds))

    def reason(self, run: str, size: int) -> str:
        """Why the size is left out; empty if it is not."""
        known = self.taken.get(run, [])
        if len(known) < 2:
            return ""
        (before, less), (last, took) = known[-2:]
        power = max(1.0, math.log(took / less) / math.log(last / before))
        expected = took * (size / last) ** power
        if expected <= self.seconds:
            return ""
        return f"{last:,} took {took:,.0f} s, so this would take about {expected:,.0f} s, more than {self.seconds:,.0f} s"


@case("depth", "Deeper and deeper: 10 to 3,000 unrolled layers", curves=Curves("layers", PANELS))
def depth(bench: Bench) -> Iterator[Row]:
    """Residual tanh layers, 1024 x 32. "Plan" is tracing, cutting and planning, nothing remembered; "compile" is the whole
    of `.compile`, planning included, or of jax.grad's lowering and compiling; "run" is the median of a few calls, by turns.
    """
    width, batch = 32, 1024

    def at(layers: int) -> tuple[Callable, tuple[Any, ...], dict[str, Any]]:
        loss, args = tanh_chain(layers=layers, width=width, batch=batch)
        return loss, args, {f"budget {share}": share for share in ("0.25x", "0.1x")}

    yield from scaling(bench, "layers", bench.size(DEPTHS, (10, 20)), at, {})


@case("length", "Longer and longer: a scan of 100 to 1,000,000 steps", curves=Curves("steps", PANELS))
def length(bench: Bench) -> Iterator[Row]:
    """A recurrent cell of 8 x 32. Columns as in `depth`; the budgets are of 512 and 64 states, outputs beside them."""
    width, batch = 32, 8
    args = arguments(width, batch)
    budgets = {f"budget of {n} states": n * state_bytes(width, batch) + output_bytes(args) for n in (512, 64)}

    def at(steps: int) -> tuple[Callable, tuple[Any, ...], dict[str, Any]]:
        return recurrent(steps), args, budgets

    yield from scaling(bench, "steps", bench.size(LENGTHS, (16, 64)), at, {"argnums": (0, 1, 2)})


def scaling(
    bench: Bench,
    unit: str,
    sizes: tuple[int, ...],
    at: Callable[[int], tuple[Callable, tuple[Any, ...], dict[str, Any]]],
    options: dict[str, Any],
) -> Iterator[Row]:
    """jax.grad and each budget at each size.

    Args:
        bench: the context.
        unit: what a size counts.
        sizes: in growing order.
        at: from a size to the loss, its arguments, and budgets by name.
        options: of `value_and_grad`.
    """
    cap = Cap(CAP_SECONDS)
    bench.doing("warming the planner")
    warm_loss, warm_args = tanh_chain(layers=WARM, width=8, batch=64)
    cg.plan(warm_loss, *warm_args, budget="0.5x")
    for size in sizes:
        group = f"{size:,} {unit}"
        loss, args, budgets = at(size)
        programs: dict[str, Any] = {}
        found: dict[str, dict[str, Any]] = {}
        for run, budget in ({"jax.grad": None} | budgets).items():
            bench.doing(f"{group}: {run}")
            reason = cap.reason(run, size)
            if reason:
                found[run] = {"skipped": reason}
                continue
            start = time.perf_counter()
            try:
                programs[run], found[run] = made(run == "jax.grad", loss, args, budget, options)
            except BudgetError as error:
                smallest = format_bytes(error.smallest)
                found[run] = {"skipped": f"{format_bytes(error.budget)} is less than the smallest possible, {smallest}"}
            cap.note(run, size, time.perf_counter() - start)
        bench.doing(f"{group}: times")
        limit = RAM_SHARE * psutil.virtual_memory().total
        runnable = {run: p for run, p in programs.items() if compiled_memory(p).peak_bytes <= limit}
        taken = alternate([partial(p, *args) for p in runnable.values()], bench.size(ROUNDS, 1))
        medians = dict(zip(runnable, map(statistics.median, taken), strict=True))
        for run, values in found.items():
            if run in programs and run not in medians:
                values["note"] = f"compiled and not run: more than {RAM_SHARE:.0%} of the memory"
            yield row(run, group, **{unit: size}, **values, run_seconds=medians.get(run))


def made(theirs: bool, loss: Callable, args: tuple[Any, ...], budget: Any, options: dict[str, Any]) -> tuple[Any, dict]:
    """The executable, and what planning and compiling took."""
    cold()
    start = time.perf_counter()
    if theirs:
        executable = compiled(jax.value_and_grad(loss, **options), args)
        values: dict[str, Any] = {"compile_seconds": time.perf_counter() - start}
    else:
        door = cg.value_and_grad(loss, budget=budget, **options)
        plan = door.plan(*args)
        values = {"plan_seconds": time.perf_counter() - start}
        cold()
        start = time.perf_counter()
        certified = door.compile(*args)
        values |= {"compile_seconds": time.perf_counter() - start, "plans_compiled": certified.rounds}
        values |= {"budget_bytes": certified.budget, "predicted_bytes": plan.peak_bytes}
        executable = certified.executable
    return executable, values | {"certified_bytes": compiled_memory(executable).peak_bytes}
