"""Programs side by side: bytes from XLA's buffer assignment, interleaved times, gradients against the first program's."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.stages import Compiled

import ckptgrad as cg
from ckptgrad.bench.rows import Row, Value, row
from ckptgrad.bytes import Budget
from ckptgrad.chain.program import forget_kinds
from ckptgrad.target.allocated import compiled_memory
from ckptgrad.validation.compare import difference
from ckptgrad.validation.timing import alternate, median_ratio


@dataclass(frozen=True)
class Program:
    """A compiled `value_and_grad` with its arguments.

    Attributes:
        run: its name in the table.
        executable: what `jax.jit(...).lower(...).compile()` returns.
        args: concrete arguments.
        budget_bytes: its budget beyond the arguments, if it has one.
        values: further values of its row.
        comparable: whether its gradients have the structure of the first program's, so that they can be compared.
    """

    run: str
    executable: Compiled
    args: tuple[Any, ...]
    budget_bytes: int | None = None
    values: dict[str, Value] = field(default_factory=dict)
    comparable: bool = True


def compile_for(fun: Callable, args: tuple[Any, ...]) -> Compiled:
    """Compile a function for these arguments."""
    return jax.jit(fun).lower(*args).compile()


def forget_compilations() -> None:
    """Empty JAX's caches and ours, so that the next compilation starts from nothing."""
    jax.clear_caches()
    forget_kinds()


def peer_program(run: str, fun: Callable, args: tuple[Any, ...], comparable: bool = True) -> Program:
    """A peer's `value_and_grad`, compiled."""
    start = time.perf_counter()
    executable = compile_for(fun, args)
    return Program(run, executable, args, values={"compile_seconds": time.perf_counter() - start}, comparable=comparable)


def certified_program(run: str, loss: Callable, args: tuple[Any, ...], budget: Budget = None, **options: Any) -> Program:
    """ckptgrad's certified program.

    Args:
        run: its name in the table.
        loss, args: what to differentiate, and where.
        budget: as for `value_and_grad`, beyond the arguments.
        options: further options of `value_and_grad`.
    """
    start = time.perf_counter()
    certified = cg.value_and_grad(loss, budget=budget, **options).compile(*args)
    seconds = time.perf_counter() - start
    values = {"compile_seconds": seconds, "predicted_bytes": certified.plan.peak_bytes}
    return Program(run, certified.executable, args, certified.budget, values)


def compare_programs(
    programs: Sequence[Program], rounds: int, group: str = "", state_bytes: int = 0, rival: int | None = None
) -> Iterator[Row]:
    """One row per program: bytes, time relative to the first program, and distance of its gradient from the first one's.

    Args:
        programs: all are compared with the first.
        rounds: how often each is timed.
        group: the group of the rows.
        state_bytes: size of a loop's carried state; if given, temporaries are also shown in states.
        rival: index of a program; the times of the programs after it are also shown relative to it.
    """
    seconds = alternate([lambda p=p: p.executable(*p.args) for p in programs], rounds)
    expected = programs[0].executable(*programs[0].args)[1]
    for place, (program, program_seconds) in enumerate(zip(programs, seconds, strict=True)):
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
        values |= {
            "time_ratio": median_ratio(program_seconds, seconds[0]),
            "run_seconds": statistics.median(program_seconds),
        }
        if rival is not None and place > rival:
            values["against_rival_ratio"] = median_ratio(program_seconds, seconds[rival])
        if program.comparable:
            gradients = difference(program.executable(*program.args)[1], expected)
            values |= {"difference": gradients.relative, "bits": "equal" if gradients.bitwise else "differ"}
        yield row(program.run, group, **values)


def first_compilations(
    doors: dict[str, Callable], args: tuple[Any, ...], rounds: int, group: str, announce: Callable[[str], None]
) -> Iterator[Row]:
    """Median seconds of a first compilation of each function, interleaved, and their ratio to the first function's.

    Args:
        doors: functions by name.
        args: arguments of each.
        rounds: how often each is compiled.
        group: the group of the rows.
        announce: called with the name of what is running.
    """
    seconds_by_name: dict[str, list[float]] = {name: [] for name in doors}
    for _ in range(rounds):
        for name, door in doors.items():
            announce(name)
            forget_compilations()
            start = time.perf_counter()
            compile_for(door, args)
            seconds_by_name[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(seconds) for name, seconds in seconds_by_name.items()}
    reference = next(iter(medians.values()))
    for name, seconds in medians.items():
        yield row(name, group, compile_seconds=seconds, compile_ratio=seconds / reference)
