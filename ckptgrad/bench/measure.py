"""Programs side by side: bytes by XLA's buffer assignment, times by turns in one process, gradients against the first's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

import ckptgrad as cg
from ckptgrad.bench.rows import Row, Value, row
from ckptgrad.chain.program import forget_kinds
from ckptgrad.meters.xla import compiled_memory
from ckptgrad.validation.compare import difference
from ckptgrad.validation.timing import alternate, median_ratio


@dataclass(frozen=True)
class Program:
    """A compiled `value_and_grad` with its arguments.

    Attributes:
        run: its name.
        executable: what `jax.jit(...).lower(...).compile()` returns.
        args: concrete arguments.
        budget_bytes: beyond the arguments, where it has one.
        values: what else is known of it.
        same: whether its result is laid out like the first program's, so that gradients can be compared.
    """

    run: str
    executable: Any
    args: tuple[Any, ...]
    budget_bytes: int | None = None
    values: dict[str, Value] = field(default_factory=dict)
    same: bool = True


def compiled(fun: Callable, args: tuple[Any, ...]) -> Any:
    """The executable."""
    return jax.jit(fun).lower(*args).compile()


def cold() -> None:
    """Forget what was traced and compiled, so that the next compilation is a first one."""
    jax.clear_caches()
    forget_kinds()


def theirs(run: str, fun: Callable, args: tuple[Any, ...], same: bool = True) -> Program:
    """A peer's value and gradient, compiled as it is."""
    start = time.perf_counter()
    executable = compiled(fun, args)
    return Program(run, executable, args, values={"compile_seconds": time.perf_counter() - start}, same=same)


def ours(run: str, loss: Callable, args: tuple[Any, ...], budget: int | str | None = None, **options: Any) -> Program:
    """The certified program of ckptgrad.

    Args:
        run: its name.
        loss, args: what to differentiate, and where.
        budget: beyond the arguments, as `value_and_grad` takes it.
        options: its other options.
    """
    start = time.perf_counter()
    certified = cg.value_and_grad(loss, budget=budget, **options).compile(*args)
    seconds = time.perf_counter() - start
    values = {"compile_seconds": seconds, "predicted_bytes": certified.plan.peak_bytes}
    return Program(run, certified.executable, args, certified.budget, values)


def measured(
    programs: Sequence[Program], rounds: int, group: str = "", state_bytes: int = 0, rival: int | None = None
) -> Iterator[Row]:
    """A row for each program: bytes, time against the first one's, and how far its gradient is from that one's.

    Args:
        programs: compared with the first of them.
        rounds: of timing.
        group: of the rows.
        state_bytes: of a loop's carried state, to show temporaries in states too.
        rival: the place of a program against which the times of those behind it are shown too.
    """
    seconds = alternate([lambda p=p: p.executable(*p.args) for p in programs], rounds)
    expected = programs[0].executable(*programs[0].args)[1]
    for place, (program, taken) in enumerate(zip(programs, seconds, strict=True)):
        memory = compiled_memory(program.executable)
        values: dict[str, Any] = {
            "budget_bytes": program.budget_bytes,
            **program.values,
            "temporaries_bytes": memory.temporary_bytes,
            "certified_bytes": memory.peak_bytes,
        }
        if state_bytes:
            values["temporaries_states"] = memory.temporary_bytes / state_bytes
        if program.budget_bytes is not None:
            values["kept"] = memory.peak_bytes <= program.budget_bytes
        values |= {"time_ratio": median_ratio(taken, seconds[0]), "run_seconds": statistics.median(taken)}
        if rival is not None and place > rival:
            values["against_rival_ratio"] = median_ratio(taken, seconds[rival])
        if program.same:
            apart = difference(program.executable(*program.args)[1], expected)
            values |= {"difference": apart.relative, "bits": "equal" if apart.bitwise else "differ"}
        yield row(program.run, group, **values)


def first_compilations(
    doors: dict[str, Callable], args: tuple[Any, ...], rounds: int, group: str, doing: Callable[[str], None]
) -> Iterator[Row]:
    """Median seconds of compiling each door for the first time, by turns, and their ratio to the first door's.

    Args:
        doors: functions by name.
        args: of each.
        rounds: of timing.
        group: of the rows.
        doing: told what is running.
    """
    taken: dict[str, list[float]] = {name: [] for name in doors}
    for _ in range(rounds):
        for name, door in doors.items():
            doing(name)
            cold()
            start = time.perf_counter()
            compiled(door, args)
            taken[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    reference = next(iter(medians.values()))
    for name, seconds in medians.items():
        yield row(name, group, compile_seconds=seconds, compile_ratio=seconds / reference)
