"""The engine without a budget against JAX's: a large graph, eager calls, compiled calls, Jacobians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.bench.cases.chains import MODELS
from ckptgrad.bench.measure import cold, compiled
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.validation.timing import alternate, median_ratio

ROUNDS = 7


@case("engine", "The engine without a budget, against JAX's")
def engine(bench: Bench) -> Iterator[Row]:
    """Seconds are medians of each; the ratio is the median of ratios to JAX's namesake, the two in turn in one process."""
    yield from graph(bench)
    yield from transformer_rows(bench)
    yield from jacobian(bench)


def against(run: str, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> Row:
    """Median seconds of both, and the median ratio."""
    mine, other = alternate((ours, theirs), rounds)
    medians: dict[str, Any] = {"ckptgrad_seconds": statistics.median(mine), "jax_seconds": statistics.median(other)}
    return row(run, **medians, time_ratio=median_ratio(mine, other))


def graph(bench: Bench) -> Iterator[Row]:
    """Four operations a turn, and a sum."""
    turns, x = bench.size(1250, 20), jnp.ones(8)
    run = f"{4 * turns + 1:,} operations traced and differentiated"
    bench.doing(run)

    def deep(x):
        for _ in range(turns):
            x = jnp.sin(x) * 1.01 + x
            x = x / 1.5
        return x.sum()

    def traced(grad) -> int:
        return len(jax.make_jaxpr(grad(deep))(x).eqns)

    yield against(run, partial(traced, cg.grad), partial(traced, jax.grad), bench.size(3, 1))


def transformer_rows(bench: Bench) -> Iterator[Row]:
    """Its gradient called eagerly and compiled, and its tangent."""
    model = MODELS["transformer"]
    loss, args = model(bench)
    bench.doing("eager")
    eager = lambda: cg.value_and_grad(loss)(*args), lambda: jax.value_and_grad(loss)(*args)
    yield against(f"{model.title}: eager gradient", *eager, bench.size(4, 1))
    tangents = jax.tree.map(
        lambda a: jnp.ones_like(a) if a.dtype == jnp.float32 else jnp.zeros(a.shape, jax.dtypes.float0), args
    )
    pairs = {
        "gradient": (cg.value_and_grad(loss), jax.value_and_grad(loss), args),
        "jvp": (partial(cg.jvp, loss), partial(jax.jvp, loss), (args, tangents)),
    }
    for name, (*doors, given) in pairs.items():
        bench.doing(name)
        programs, made = [], []
        for door in doors:
            cold()
            start = time.perf_counter()
            programs.append(compiled(door, given))
            made.append(time.perf_counter() - start)
        took = {"ckptgrad_seconds": made[0], "jax_seconds": made[1], "time_ratio": made[0] / made[1]}
        yield row(f"{name}: traced and compiled", **took)
        mine, other = (partial(program, *given) for program in programs)
        yield against(f"{name}: compiled, run", mine, other, bench.size(ROUNDS, 1))


def jacobian(bench: Bench) -> Iterator[Row]:
    """Narrow waists, where neither plain forward nor plain reverse mode is best."""
    wide = jax.random.normal(jax.random.key(0), (400, 4)) / 20
    bench.doing("jacobian")

    def hourglass(x):
        for _ in range(4):
            x = jnp.sin(wide @ jnp.tanh(wide.T @ x))
        return x

    x = jnp.ones(400)
    plan = cg.jacobian(hourglass).plan(x)
    ours, theirs = jax.jit(cg.jacobian(hourglass)), jax.jit(jax.jacrev(hourglass))
    least = min(plan.forward, plan.reverse)
    found = against("Jacobian of 400 to 4 to ... to 400, against jacrev", partial(ours, x), partial(theirs, x), ROUNDS)
    counts = {"multiplications": plan.multiplications, "multiplications_forward_or_reverse": least}
    yield Row(found.run, values=found.values | counts)
