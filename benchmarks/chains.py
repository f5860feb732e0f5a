"""Budgets, times and gradients of deep models against jax.grad and jax.checkpoint.

    python benchmarks/chains.py [tanh|gelu|transformer|resnet|rivals|overhead] ...

Bytes are XLA's buffer assignment.  Times are medians of ratios to jax.grad, every row timed in
turn in one process.  A budget of p % allows temporaries of p % of jax.grad's, plus the outputs.
`rivals` lends the policies of jax.checkpoint and nested segments the calls kept apart without which
they save nothing on CPU, or runs them inside lax.scan where they do, and asks for the optimal plan in
as many bytes as each takes.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from models import gelu_stack, resnet, tanh_chain, transformer
from rich.console import Console
from rich.table import Table

import ckptgrad as cg
from ckptgrad.meters.xla import compiled_memory
from ckptgrad.planning.policies.every_k import every_k

BUDGETS = {
    "tanh": (60, 37, 25, 19, 14),
    "gelu": (25, 12),
    "transformer": (45, 25, 19, 15, 10),
    "resnet": (40,),
}
MODELS = {"tanh": tanh_chain, "gelu": gelu_stack, "transformer": transformer, "resnet": resnet}
SAVEABLE = ("dots_saveable", "dots_with_no_batch_dims_saveable", "nothing_saveable")
ROUNDS = 9


def compile_(fun, args):
    return jax.jit(fun).lower(*args).compile()


def largest_difference(found, reference):
    """Largest relative difference over leaves, and whether all bits agree."""
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True))
    difference = max(float(jnp.abs(a - b).max() / jnp.maximum(jnp.abs(b).max(), 1e-30)) for a, b in pairs)
    return difference, all(np.array_equal(a, b) for a, b in pairs)


def ratios(runs, args):
    """Median time of each compiled function over that of the first, in alternation."""
    taken = {name: [] for name in runs}
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*args))
            taken[name].append(time.perf_counter() - start)
    reference = next(iter(taken.values()))
    return {
        name: statistics.median(t / r for t, r in zip(times[1:], reference[1:], strict=True))
        for name, times in taken.items()
    }


def case(name, model, console):
    loss, args = model()
    checkpointed, _ = model(wrap=jax.checkpoint)
    runs = {"jax.grad": compile_(jax.value_and_grad(loss), args)}
    reference = compiled_memory(runs["jax.grad"])
    runs["jax.checkpoint"] = compile_(jax.value_and_grad(checkpointed), args)
    predicted, limits = {}, {}
    for percent in (None, *BUDGETS[name]):
        row = "no budget" if percent is None else f"{percent} %"
        budget = None
        if percent is not None:
            budget = reference.temporary_bytes * percent // 100 + reference.output_bytes
        limits[row] = budget
        certified = cg.value_and_grad(loss, budget=budget).compile(*args)
        runs[row], predicted[row] = certified.executable, certified.plan.temporary_bytes
    times = ratios(runs, args)
    expected = runs["jax.grad"](*args)
    table = Table(title=f"{name}: temporaries and time against jax.grad")
    columns = ("run", "budget MiB", "predicted MiB", "certified MiB", "% of jax.grad", "kept", "time")
    for column in (*columns, "difference", "bits"):
        table.add_column(column, justify="right")
    for row, run in runs.items():
        memory = compiled_memory(run)
        difference, equal = largest_difference(run(*args)[1], expected[1])
        limit = limits.get(row)
        table.add_row(
            row,
            "" if limit is None else f"{(limit - reference.output_bytes) / 2**20:.1f}",
            f"{predicted[row] / 2**20:.1f}" if row in predicted else "",
            f"{memory.temporary_bytes / 2**20:.1f}",
            f"{100 * memory.temporary_bytes / reference.temporary_bytes:.1f}",
            "" if limit is None else ("yes" if memory.peak_bytes <= limit else "NO"),
            f"{times[row]:.2f}",
            f"{difference:.1e}",
            "equal" if equal else "",
        )
    console.print(table)


def rivals(console):
    """The policies of jax.checkpoint and nested segments, and the optimal plan in as many bytes.

    Rivals whose name begins with "scan" are jax.grad of a scan over stacked layers, where jax.checkpoint saves memory on
    CPU too; the others are run by this engine.
    """
    for name in ("gelu", "transformer"):
        loss, args = MODELS[name]()
        runs = {"jax.grad": (compile_(jax.value_and_grad(loss), args), args)}
        options = {f"jax.checkpoint, {p}": {"saveable": getattr(jax.checkpoint_policies, p)} for p in SAVEABLE}
        options |= {f"segments of {k}": {"policy": every_k(k)} for k in (2, 4, 6)}
        lent = {r: (cg.value_and_grad(loss, **({"policy": "store_all"} | o)), args) for r, o in options.items()}
        for policy in SAVEABLE:
            wrap = functools.partial(jax.checkpoint, policy=getattr(jax.checkpoint_policies, policy))
            scan, scan_args = MODELS[name](wrap=wrap, scanned=True)
            lent[f"scan, {policy}"] = jax.value_and_grad(scan), scan_args
        for rival, (door, rival_args) in lent.items():
            run = compile_(door, rival_args)
            runs[rival] = run, rival_args
            budget = compiled_memory(run).peak_bytes
            runs[f"ours for {rival}"] = cg.value_and_grad(loss, budget=budget).compile(*args).executable, args
        times = ratios({n: lambda run=run, a=a: run(*a) for n, (run, a) in runs.items()}, ())
        table = Table("rival", "MiB", "time", "ours: MiB", "time", title=f"{name}: against the same bytes")
        for rival in lent:
            ours = f"ours for {rival}"
            sizes = [f"{compiled_memory(runs[r][0]).temporary_bytes / 2**20:.1f}" for r in (rival, ours)]
            table.add_row(rival, sizes[0], f"{times[rival]:.2f}", sizes[1], f"{times[ours]:.2f}")
        console.print(table)


def overhead(console):
    """Trace, plan and compile against jax.grad's trace and compile; and planning alone."""
    loss, args = transformer()
    jax.clear_caches()
    taken = {"jax.grad": [], "ckptgrad, no budget": [], 'ckptgrad, "0.25x"': []}
    for _ in range(3):
        for name, seconds in taken.items():
            jax.clear_caches()
            budget = "0.25x" if "0.25x" in name else None
            door = jax.value_and_grad(loss) if name == "jax.grad" else cg.value_and_grad(loss, budget=budget)
            start = time.perf_counter()
            compile_(door, args)
            seconds.append(time.perf_counter() - start)
    table = Table(title="12-block transformer: trace + plan + compile")
    table.add_column("run")
    table.add_column("seconds (median)", justify="right")
    table.add_column("ratio", justify="right")
    base = statistics.median(taken["jax.grad"])
    for name, times in taken.items():
        table.add_row(name, f"{statistics.median(times):.2f}", f"{statistics.median(times) / base:.2f}")
    console.print(table)
    loss, args = tanh_chain(layers=1000, width=32, batch=2048)
    start = time.perf_counter()
    plan = cg.plan(loss, *args, budget="0.25x")
    console.print(
        f"1,000 equal layers: traced, cut into {len(plan.costs)} stages ({len(plan.program.kinds)} distinct) "
        f"and planned in {time.perf_counter() - start:.1f} s"
    )


def main(names):
    console = Console(width=140)
    for name in names or (*MODELS, "rivals", "overhead"):
        if name == "overhead":
            overhead(console)
        elif name == "rivals":
            rivals(console)
        else:
            case(name, MODELS[name], console)


if __name__ == "__main__":
    main(sys.argv[1:])
