"""Bytes, times and gradients of deep models, against jax.grad and jax.checkpoint."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

import ckptgrad as cg
from ckptgrad.bench.measure import Program, certified_program, compare_programs, first_compilations, peer_program
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.example_models import Problem, gelu_stack, resnet, tanh_chain, transformer
from ckptgrad.planning.policies.every_k import every_k
from ckptgrad.target.allocated import compiled_memory

ROUNDS, QUICK_ROUNDS = 9, 2
ABOUT = """Temporaries come from XLA's buffer assignment. Times are medians of ratios to jax.grad, all rows interleaved in
one process. A budget of p % allows p % of jax.grad's temporaries, plus the outputs. jax.checkpoint is around every block."""


@dataclass(frozen=True)
class Model:
    """A model of the book: its quick sizes, and its budgets in percent of jax.grad's temporaries."""

    title: str
    make: Callable[..., Problem]
    quick: dict[str, Any]
    percents: tuple[int, ...]

    def __call__(self, bench: Bench, **options: Any) -> Problem:
        """The loss and its arguments, at the size that `bench` asks for."""
        return self.make(**bench.size({}, self.quick), **options)


MODELS = {
    "tanh": Model(
        "32 residual tanh layers, 2048 x 512",
        tanh_chain,
        {"layers": 6, "width": 32, "batch": 512},
        (60, 37, 25, 19, 14),
    ),
    "gelu": Model(
        "12 GELU layers, 256 to 1024 to 256, batch 2048",
        gelu_stack,
        {"layers": 4, "width": 32, "hidden": 128, "batch": 256},
        (25, 12),
    ),
    "transformer": Model(
        "12-block transformer, width 256",
        transformer,
        {"blocks": 2, "width": 32, "context": 32, "batch": 2, "vocabulary": 32},
        (45, 25, 19, 15, 10),
    ),
    "resnet": Model(
        "ResNet-50's chain of blocks with group norm",
        resnet,
        {"counts": (1, 1), "width": 8, "size": 8, "batch": 2},
        (40,),
    ),
}


def budgets(name: str, bench: Bench) -> Iterator[Row]:
    """A model without a budget, and with tighter and tighter ones."""
    model = MODELS[name]
    loss, args = model(bench)
    bench.announce("jax.grad")
    programs = [peer_program("jax.grad", jax.value_and_grad(loss), args)]
    bench.announce("jax.checkpoint")
    programs.append(peer_program("jax.checkpoint", jax.value_and_grad(model(bench, wrap=jax.checkpoint)[0]), args))
    bench.announce("no budget")
    programs.append(certified_program("no budget", loss, args))
    reference = compiled_memory(programs[0].executable)
    for percent in bench.size(model.percents, (75,)):
        bench.announce(f"{percent} %")
        budget = reference.temporary_bytes * percent // 100 + reference.output_bytes
        programs.append(certified_program(f"{percent} %", loss, args, budget))
    bench.announce("times")
    yield from compare_programs(programs, bench.size(ROUNDS, QUICK_ROUNDS))


for _name, _model in MODELS.items():
    case(_name, f"{_model.title}: budgets against jax.grad and jax.checkpoint", ABOUT)(functools.partial(budgets, _name))


ALL_POLICIES = ("everything_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable", "nothing_saveable")
SAVEABLE = ALL_POLICIES[1:]
SEGMENTS = (2, 4, 6)  # blocks under one jax.checkpoint


def policy_of(name: str) -> Callable:
    """A built-in policy of jax.checkpoint."""
    return getattr(jax.checkpoint_policies, name)


@case("rivals", "jax.checkpoint's policies and nested segments, and the optimal plan in the same number of bytes")
def rivals(bench: Bench) -> Iterator[Row]:
    """Each rival is followed by our plan within the rival's certified bytes.

    "unrolled" is jax.grad of unrolled blocks, each under jax.checkpoint with a built-in policy: on the CPU this saves
    nothing, because XLA merges the recomputation away. "isolated" is the same, or segments of k blocks, run by this engine,
    which keeps the recomputation from being merged. "scan" is jax.grad of a scan over stacked blocks, each under
    jax.checkpoint, or over segments of k blocks, each a scan under jax.checkpoint: this saves memory on the CPU too.
    Each pair is timed by itself, interleaved with jax.grad of the unrolled model. Times are medians of ratios to that, and
    ours also to the rival's.
    """
    for name in bench.size(("gelu", "transformer"), ("gelu",)):
        model = MODELS[name]
        rounds = bench.size(ROUNDS, QUICK_ROUNDS)
        unpaired, paired = [], []
        for program in rival_programs(model, bench):
            (paired if program.run.startswith(("isolated", "scan")) else unpaired).append(program)
        bench.announce(f"{name}: times of jax.grad")
        yield from compare_programs(unpaired, rounds, model.title)
        for program in paired:
            run = f"ours for {program.run}"
            bench.announce(f"{name}: {run}")
            pair = program, certified_program(run, *model(bench), compiled_memory(program.executable).peak_bytes)
            _, *rows = compare_programs([unpaired[0], *pair], rounds, model.title, rival=1)
            yield from rows


def rival_programs(model: Model, bench: Bench) -> Iterator[Program]:
    """jax.grad, then all its rivals."""
    loss, args = model(bench)
    yield peer_program("jax.grad", jax.value_and_grad(loss), args)
    for policy in bench.size(ALL_POLICIES, ("nothing_saveable",)):
        bench.announce(f"unrolled, {policy}")
        wrap = functools.partial(jax.checkpoint, policy=policy_of(policy))
        yield peer_program(f"unrolled, {policy}", jax.value_and_grad(model(bench, wrap=wrap)[0]), args)
    isolated = {p: {"saveable": policy_of(p), "policy": "store_all"} for p in bench.size(SAVEABLE, ("nothing_saveable",))}
    isolated |= {f"segments of {k}": {"policy": every_k(k)} for k in bench.size(SEGMENTS, SEGMENTS[:1])}
    for run, options in isolated.items():
        bench.announce(f"isolated, {run}")
        yield peer_program(f"isolated, {run}", cg.value_and_grad(loss, **options), args)
    scans: dict[str, dict[str, Any]] = {
        f"scan, {policy}": {"wrap": functools.partial(jax.checkpoint, policy=policy_of(policy))}
        for policy in bench.size(SAVEABLE, ("nothing_saveable",))
    }
    scans |= {
        f"scan, segments of {k}": {"segment": k, "wrap_segment": jax.checkpoint} for k in bench.size(SEGMENTS, SEGMENTS[:1])
    }
    for run, options in scans.items():
        bench.announce(run)
        scan, scan_args = model(bench, scanned=True, **options)
        # Gradients of stacked parameters are stacked, so they do not have the first program's structure.
        yield peer_program(run, jax.value_and_grad(scan), scan_args, comparable=False)


@case("overhead", "Tracing, planning and compiling, against jax.grad's tracing and compiling")
def overhead(bench: Bench) -> Iterator[Row]:
    """The time of a first compilation, the median of three; then of planning 1,000 equal layers, without compiling."""
    loss, args = MODELS["transformer"](bench)
    budget = bench.size("0.25x", "0.75x")
    doors = {"jax.grad": jax.value_and_grad(loss)}
    doors |= {"ours, no budget": cg.value_and_grad(loss), f"ours, {budget}": cg.value_and_grad(loss, budget=budget)}
    yield from first_compilations(doors, args, bench.size(3, 1), MODELS["transformer"].title, bench.announce)
    layers = bench.size(1000, 50)
    loss, args = tanh_chain(layers=layers, width=32, batch=2048)
    bench.announce(f"{layers:,} equal layers")
    start = time.perf_counter()
    plan = cg.plan(loss, *args, budget="0.25x")
    seconds = time.perf_counter() - start
    yield row(
        "planned", f"{layers:,} equal layers", plan_seconds=seconds, stages=len(plan.costs), distinct=len(plan.program.kinds)
    )
