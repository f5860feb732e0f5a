"""Plans for accelerators, which need not be here, against jax.grad and jax.checkpoint."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.stages import Compiled
from jax.typing import DTypeLike

import ckptgrad as cg
from ckptgrad.bench.cases.sweep import sweep_model
from ckptgrad.bench.on_target import RefusedError, for_target, kept_values, plan_for, rival_for
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.bench.target_models import MODELS, TargetModel
from ckptgrad.bytes import Budget
from ckptgrad.example_models import plain
from ckptgrad.target.hlo.cycles import cycle_seconds

ABOUT = """What XLA's compiler for this chip allocates, without the chip. jax.checkpoint is around every block, with the
policy named. Each rival is followed by our plan within its certified bytes; "against rival" is our temporaries or estimated
time in proportion to the rival's. No budget is compared with jax.grad, the smallest plan with jax.checkpoint of nothing.
Estimated times are read from the compiled program, loops as often as they turn: of a TPU the cycles that its compiler
expects, of a GPU a roofline over the kernels."""

ABOUT_SWEEPS = (
    """As `sweep`, for a chip that need not be here: models and sizes are those of `mlp` and `transformer` there."""
)
SWEPT, BUDGETS = ("mlp", "transformer"), 10

# By the words in names of cases: a target, and the types of real numbers there.
TARGETS: dict[str, tuple[str, tuple[DTypeLike, ...]]] = {
    "h100": ("h100", (jnp.float32, jnp.bfloat16)),
    "v5e": ("v5e:2x2", (jnp.bfloat16,)),
}
POLICIES = {"nothing": "nothing_saveable", "dots": "dots_saveable", "dots without batch": "dots_with_no_batch_dims_saveable"}
GRAD, NOTHING = "jax.grad", "jax.checkpoint, nothing"


@dataclass(frozen=True)
class Rival:
    """What our plans are compared with."""

    certified_bytes: int
    temporaries_bytes: int
    estimated_seconds: float


@dataclass(frozen=True)
class Setting:
    """One model on one target, in one type of real numbers."""

    bench: Bench
    model: TargetModel
    target: cg.Target
    dtype: DTypeLike

    @property
    def group(self) -> str:
        """The rows' group: the name of the type."""
        return jnp.dtype(self.dtype).name

    def rows(self) -> Iterator[Row]:
        """Each rival and our plan at its bytes; no budget, and the smallest plan."""
        rivals: dict[str, Rival] = {}
        for run, wrap in _wraps().items():
            self.bench.announce(f"{self.group}: {run}")
            rival_row, rival = self.rival(run, wrap)
            yield rival_row
            if rival is not None:
                rivals[run] = rival
                yield self.ours(f"ours for {run.removeprefix('jax.')}", rival.certified_bytes, rival)
        yield self.ours("ours, no budget", None, rivals.get(GRAD))
        yield self.ours("ours, smallest", "min", rivals.get(NOTHING))

    def rival(self, run: str, wrap: Callable[[Callable], Callable]) -> tuple[Row, Rival | None]:
        """jax.grad with `wrap` around each block."""
        loss, args = self.model(self.bench, self.dtype, wrap)
        try:
            executable, seconds = rival_for(self.target, loss, args)
        except RefusedError as refused:
            return row(run, self.group, skipped=str(refused)), None
        values = self.judged(executable)
        rival = Rival(*(values[field.name] for field in fields(Rival)))
        return row(run, self.group, **values, compile_seconds=seconds), rival

    def ours(self, run: str, budget: Budget, rival: Rival | None) -> Row:
        """Our plan within a budget, against a rival."""
        self.bench.announce(f"{self.group}: {run}")
        loss, args = self.model(self.bench, self.dtype)
        try:
            certified, seconds = plan_for(self.target, loss, args, budget)
        except RefusedError as refused:
            return row(run, self.group, skipped=str(refused))
        judged = self.judged(certified.executable)
        values = kept_values(certified) | judged
        if rival is not None:
            values["temporaries_against_rival_ratio"] = judged["temporaries_bytes"] / rival.temporaries_bytes
            values["time_against_rival_ratio"] = judged["estimated_seconds"] / rival.estimated_seconds
        return row(run, self.group, **values, plans_compiled=certified.rounds, compile_seconds=seconds)

    def judged(self, executable: Compiled) -> dict[str, Any]:
        """What the compiler says of a program: bytes, time, and cycles where it states them."""
        memory, (seconds, cycles) = self.target.allocated(executable), estimated_time(self.target, executable)
        return {
            "certified_bytes": memory.peak_bytes,
            "temporaries_bytes": memory.temporary_bytes,
            "estimated_cycles": cycles,
            "estimated_seconds": seconds,
        }


def estimated_time(target: cg.Target, executable: Compiled) -> tuple[float, int | None]:
    """The seconds that a program is expected to take, and the cycles where the compiler states them."""
    seconds = target.compiled_seconds(executable)
    assert seconds is not None
    return seconds, round(seconds * target.rates.clock) if target.platform.compiled_seconds is cycle_seconds else None


def _wraps() -> dict[str, Callable[[Callable], Callable]]:
    """What each rival puts around a block."""
    wraps: dict[str, Callable[[Callable], Callable]] = {GRAD: plain}
    for words, name in POLICIES.items():
        wraps[f"jax.checkpoint, {words}"] = partial(jax.checkpoint, policy=getattr(jax.checkpoint_policies, name))
    return wraps


def against_rivals(name: str, target: cg.Target, dtypes: Sequence[DTypeLike], bench: Bench) -> Iterator[Row]:
    """A model on a target, against each rival."""
    for dtype in bench.size(dtypes, dtypes[-1:]):
        yield from Setting(bench, MODELS[name], target, dtype).rows()


def sweeps(target: cg.Target, dtypes: Sequence[DTypeLike], bench: Bench) -> Iterator[Row]:
    """Models over many budgets, and all predictions together."""
    errors: list[float] = []
    for dtype in bench.size(dtypes, dtypes[-1:]):
        for name in bench.size(SWEPT, SWEPT[:1]):
            bench.announce(f"{jnp.dtype(dtype).name}: {name}")
            problem = MODELS[name](bench, dtype)
            swept, off = sweep_model(name, problem, bench.size(BUDGETS, 3), target=target, group=jnp.dtype(dtype).name)
            errors += off
            yield swept
    yield row("all", off_median_share=statistics.median(errors), off_worst_share=max(errors))


Rows: TypeAlias = Callable[[cg.Target, Sequence[DTypeLike], Bench], Iterator[Row]]


def on_chip(chip: str, rows: Rows, bench: Bench) -> Iterator[Row]:
    """The rows for a chip; one with the reason where its compiler is not installed."""
    name, dtypes = TARGETS[chip]
    return for_target(name, lambda target: rows(target, dtypes, bench))


for _chip, (_target, _) in TARGETS.items():
    for _name, _model in MODELS.items():
        _rows = partial(on_chip, _chip, partial(against_rivals, _name))
        case(f"targets-{_chip}-{_name}", f"{_model.title}, on {_target}", ABOUT)(_rows)
    case(f"targets-{_chip}-sweep", f"Two models over ten budgets each, on {_target}", ABOUT_SWEEPS)(
        partial(on_chip, _chip, sweeps)
    )
