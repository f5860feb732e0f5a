"""Back-propagation through time within a budget, against jax.grad, nested jax.checkpoint, equinox and diffrax.

    pip install "ckptgrad[peers]"
    python benchmarks/loops.py [scans|while|compile|burgers] ...

A recurrent cell h <- tanh(h w + b).  Bytes are XLA's temporaries in units of the carried state (`act`); times are medians
of ratios to jax.grad of `lax.scan`, every row timed in turn in one process.  `burgers` recovers the initial condition
of a viscous Burgers equation from its state after 100,000 steps.
"""

from __future__ import annotations

import statistics
import sys
import time
from importlib import import_module
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

import ckptgrad as cg
from ckptgrad.chain.program import _RECENT
from ckptgrad.meters.xla import compiled_memory

# Steps, width, batch; budgets in states; steps of an inner loop under jax.checkpoint; checkpoints of equinox.
CASES = {
    "T=4096, width 64, batch 16": (4096, 64, 16, (338, 128, 32), 64, (128, 32)),
    "T=1024, width 256, batch 64": (1024, 256, 64, (178, 64, 32), 32, (64, 16)),
    "T=65536, width 32, batch 8": (65536, 32, 8, (1024, 512, 64), 256, (512, 64)),
}
ROUNDS = 7


def arguments(width, batch):
    keys = jax.random.split(jax.random.key(0), 3)
    w = jax.random.normal(keys[0], (width, width)) / np.sqrt(width)
    return w, 0.1 * jax.random.normal(keys[1], (width,)), jax.random.normal(keys[2], (batch, width))


def cell(w, b, h):
    return jnp.tanh(h @ w + b)


def recurrent(length):
    def loss(w, b, h):
        return jnp.mean(lax.scan(lambda c, _: (cell(w, b, c), None), h, None, length=length)[0] ** 2)

    return loss


def nested(length, inner):
    """Two nested scans, the inner one under jax.checkpoint."""

    def loss(w, b, h):
        @jax.checkpoint
        def outer(c, _):
            return lax.scan(lambda c, _: (cell(w, b, c), None), c, None, length=inner)[0], None

        return jnp.mean(lax.scan(outer, h, None, length=length // inner)[0] ** 2)

    return loss


def counted(w, b, h, n):
    """The number of steps is known at run time only."""
    return jnp.mean(lax.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, cell(w, b, s[1])), (0, h))[1] ** 2)


def equinox_scan(loops, length, checkpoints):
    def loss(w, b, h):
        final, _ = loops.scan(
            lambda c, _: (cell(w, b, c), None), h, None, length=length, kind="checkpointed", checkpoints=checkpoints
        )
        return jnp.mean(final**2)

    return loss


def equinox_while(loops, checkpoints):
    def loss(w, b, h, n):
        final = loops.while_loop(
            lambda s: s[0] < n, lambda s: (s[0] + 1, cell(w, b, s[1])), (0, h), kind="checkpointed", checkpoints=checkpoints
        )
        return jnp.mean(final[1] ** 2)

    return loss


def diffrax_steps(diffrax, checkpoints):
    """The cell as Euler steps of length one of dh/dt = cell(h) - h."""

    def loss(w, b, h, n):
        term = diffrax.ODETerm(lambda t, h, args: cell(*args, h) - h)
        adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=checkpoints)
        final = diffrax.diffeqsolve(
            term, diffrax.Euler(), 0.0, n.astype(jnp.float32), 1.0, h, (w, b), adjoint=adjoint, max_steps=None
        )
        return jnp.mean(final.ys[-1] ** 2)

    return loss


def gradient(loss):
    return jax.value_and_grad(loss, (0, 1, 2))


def compiled(door, args):
    start = time.perf_counter()
    executable = jax.jit(door).lower(*args).compile()
    return executable, time.perf_counter() - start


def peer(name, console):
    """A module if it is installed, else None and a word."""
    if find_spec(name.split(".")[0]) is None:
        console.print(f"{name} is not installed: its rows are left out (pip install 'ckptgrad[peers]')")
        return None
    return import_module(name)


def timed(rows):
    """Median time of each row over that of the first, in alternation, and its largest relative difference."""
    taken, first = {name: [] for name in rows}, next(iter(rows))
    for _ in range(ROUNDS + 1):
        for name, (run, args) in rows.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*args))
            taken[name].append(time.perf_counter() - start)
    wanted = rows[first][0](*rows[first][1])[1]
    found = {}
    for name, (run, args) in rows.items():
        pairs = zip(run(*args)[1], wanted, strict=True)
        difference = max(float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs)
        ratio = statistics.median(t / r for t, r in zip(taken[name][1:], taken[first][1:], strict=True))
        found[name] = ratio, difference
    return found


def show(title, rows, limits, act, console, compiling=None):
    table = Table(title=title)
    for column in ("run", "budget, act", "temporaries, act", "kept", "time", "compile", "difference"):
        table.add_column(column, justify="right")
    for name, (ratio, difference) in timed(rows).items():
        held = compiled_memory(rows[name][0]).temporary_bytes / act
        limit = limits.get(name)
        table.add_row(
            name,
            "" if limit is None else f"{limit:.0f}",
            f"{held:.1f}",
            "" if limit is None else ("yes" if held <= limit else "NO"),
            f"{ratio:.2f}",
            f"{compiling[name]:.2f} s" if compiling and name in compiling else "",
            f"{difference:.1e}",
        )
    console.print(table)


def scans(console):
    loops = peer("equinox.internal", console)
    for title, (length, width, batch, budgets, inner, checkpoints) in CASES.items():
        args = arguments(width, batch)
        act, outputs = batch * width * 4, sum(x.nbytes for x in args) + 4
        rows, limits, seconds = {}, {}, {}
        doors = {"jax.grad": gradient(recurrent(length)), f"nested jax.checkpoint, {inner}": gradient(nested(length, inner))}
        if loops is not None:
            doors |= {f"equinox, {c} checkpoints": gradient(equinox_scan(loops, length, c)) for c in checkpoints}
        for name, door in doors.items():
            executable, seconds[name] = compiled(door, args)
            rows[name] = executable, args
        for budget in (None, *budgets):
            name = "ours" if budget is None else f"ours, {budget}"
            start = time.perf_counter()
            door = cg.value_and_grad(recurrent(length), (0, 1, 2), budget=budget and budget * act + outputs)
            certified = door.compile(*args)
            seconds[name] = time.perf_counter() - start
            rows[name], limits[name] = (certified.executable, args), budget
        show(title, rows, limits, act, console, seconds)


def whiles(console):
    length, width, batch = 4096, 64, 16
    args = arguments(width, batch)
    act, outputs = batch * width * 4, sum(x.nbytes for x in args) + 4
    counted_args = (*args, jnp.int32(length))
    rows = {"jax.grad of the scan": (compiled(gradient(recurrent(length)), args)[0], args)}
    limits = {}
    loops, diffrax = peer("equinox.internal", console), peer("diffrax", console)
    for checkpoints in (64, 16):
        if diffrax is not None:
            door = gradient(diffrax_steps(diffrax, checkpoints))
            rows[f"diffrax, {checkpoints} checkpoints"] = compiled(door, counted_args)[0], counted_args
        budget = 2 * checkpoints
        if loops is not None:
            executable, _ = compiled(gradient(equinox_while(loops, checkpoints)), counted_args)
            rows[f"equinox, {checkpoints} checkpoints"] = executable, counted_args
            budget = compiled_memory(executable).temporary_bytes / act
        door = cg.value_and_grad(counted, (0, 1, 2), budget=int(budget * act) + outputs)
        name = f"ours, {budget:.0f}"
        rows[name], limits[name] = (door.compile(*counted_args).executable, counted_args), budget
    show(f"while_loop, {length} steps decided by data, width {width}, batch {batch}", rows, limits, act, console)


def compile_times(console):
    """Trace, plan and compile, for more and more steps."""
    columns = ("steps", "jax.grad of the scan", "ours", "ratio", "ours, 64 states", "ratio")
    table = Table(*columns, title="trace, plan and compile, seconds")
    args = arguments(64, 16)
    act = 64 * 16 * 4
    for length in (100, 10_000, 1_000_000):
        taken = {"jax.grad": [], "ours": [], "budget": []}
        for _ in range(3):
            for name, seconds in taken.items():
                jax.clear_caches()
                _RECENT.clear()
                budget = 64 * act if name == "budget" else None
                door = gradient(recurrent(length))
                door = door if name == "jax.grad" else cg.value_and_grad(recurrent(length), (0, 1, 2), budget=budget)
                seconds.append(compiled(door, args)[1])
        plain, ours, budget = (statistics.median(t) for t in taken.values())
        row = f"{length:,}", f"{plain:.2f}", f"{ours:.2f}", f"{ours / plain:.1f}", f"{budget:.2f}", f"{budget / plain:.1f}"
        table.add_row(*row)
    console.print(table)


def burgers_step(u, dt, viscosity):
    """One explicit step of u_t + u u_x = viscosity u_xx on a circle."""
    dx = 2 * jnp.pi / u.shape[0]
    ahead, behind = jnp.roll(u, -1), jnp.roll(u, 1)
    return u + dt * (viscosity * (ahead - 2 * u + behind) / dx**2 - (ahead**2 - behind**2) / (4 * dx))


def burgers(console, steps=100_000, points=1024, viscosity=0.1, time_=1.0, evaluations=60, budget="64MiB"):
    """The initial condition, from the state after so many steps, by SciPy's L-BFGS."""
    dt = time_ / steps
    assert dt <= (2 * np.pi / points) ** 2 / (2 * viscosity)
    x = jnp.linspace(0, 2 * jnp.pi, points, endpoint=False)
    truth = jnp.sin(x) + 0.5 * jnp.cos(2 * x)

    def solve(u):
        return lax.fori_loop(0, steps, lambda _, u: burgers_step(u, dt, viscosity), u)

    observed = jax.jit(solve)(truth)

    def misfit(u):
        return jnp.mean((solve(u) - observed) ** 2)

    start = jnp.zeros(points)
    certified = cg.value_and_grad(misfit, budget=budget).compile(start)
    plain = compiled_memory(jax.jit(jax.value_and_grad(misfit)).lower(start).compile())
    history = []

    def evaluate(u):
        value, slope = certified(jnp.asarray(u, jnp.float32))
        history.append(float(value))
        return history[-1] * points, np.asarray(slope, np.float64) * points

    began = time.perf_counter()
    options = {"maxfun": evaluations, "ftol": 0, "gtol": 0}
    found = minimize(evaluate, np.asarray(start, np.float64), jac=True, method="L-BFGS-B", options=options)
    seconds = (time.perf_counter() - began) / len(history)
    console.print(
        f"Burgers, {points} points, {steps:,} steps: certified {certified.peak_bytes / 2**20:.1f} MiB of {budget} "
        f"(jax.grad: {plain.peak_bytes / 2**20:.0f} MiB), {certified.plan.choices[0]}.\n"
        f"Misfit {history[0]:.1e} -> {min(history):.1e} in {len(history)} gradients of {seconds:.2f} s; largest error of "
        f"the initial condition {float(jnp.abs(truth).max()):.2f} -> {float(jnp.abs(found.x - truth).max()):.3f}"
    )


def main(names):
    console = Console(width=140)
    parts = {"scans": scans, "while": whiles, "compile": compile_times, "burgers": burgers}
    for name in names or parts:
        parts[name](console)


if __name__ == "__main__":
    main(sys.argv[1:])
