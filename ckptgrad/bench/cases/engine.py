"""The engine without a budget against JAX's: a large graph, eager calls, compiled calls, a Jacobian."""

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
from ckptgrad.bench.measure import compile_for, forget_compilations
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.validation.timing import alternate, median_ratio

ROUNDS = 7


@case("engine", "The engine without a budget, against JAX's")
def engine(bench: Bench) -> Iterator[Row]:
    """Seconds are medians; the ratio is the median of ratios to JAX's function of the same name, the two interleaved in one
    process."""
    yield from graph(bench)
    yield from transformer_rows(bench)
    yield from jacobian(bench)


def against(run: str, ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> Row:
    """Median seconds of both, and the median ratio."""
    our_seconds, their_seconds = alternate((ours, theirs), rounds)
    return row(
        run,
        ckptgrad_seconds=statistics.median(our_seconds),
        jax_seconds=statistics.median(their_seconds),
        time_ratio=median_ratio(our_seconds, their_seconds),
    )


def graph(bench: Bench) -> Iterator[Row]:
    """A deep graph: four operations per repeat, and a sum."""
    repeats, x = bench.size(1250, 20), jnp.ones(8)
    run = f"{4 * repeats + 1:,} operations traced and differentiated"
    bench.announce(run)

    def deep(x: jax.Array) -> jax.Array:
        for _ in range(repeats):
            x = jnp.sin(x) * 1.01 + x
            x = x / 1.5
        return x.sum()

    def count_operations(grad) -> int:
        return len(jax.make_jaxpr(grad(deep))(x).eqns)

    yield against(run, partial(count_operations, cg.grad), partial(count_operations, jax.grad), bench.size(3, 1))


def transformer_rows(bench: Bench) -> Iterator[Row]:
    """The transformer's gradient, eager and compiled, and its forward derivative."""
    model = MODELS["transformer"]
    loss, args = model(bench)
    bench.announce("eager")
    eager = lambda: cg.value_and_grad(loss)(*args), lambda: jax.value_and_grad(loss)(*args)
    yield against(f"{model.title}: eager gradient", *eager, bench.size(4, 1))
    tangents = jax.tree.map(
        lambda a: jnp.ones_like(a) if a.dtype == jnp.float32 else jnp.zeros(a.shape, jax.dtypes.float0), args
    )
    pairs = {
        "gradient": (cg.value_and_grad(loss), jax.value_and_grad(loss), args),
        "jvp": (partial(cg.jvp, loss), partial(jax.jvp, loss), (args, tangents)),
    }
    for name, (*doors, door_args) in pairs.items():
        bench.announce(name)
        programs, seconds = [], []
        for door in doors:
            forget_compilations()
            start = time.perf_counter()
            programs.append(compile_for(door, door_args))
            seconds.append(time.perf_counter() - start)
        yield row(
            f"{name}: traced and compiled",
            ckptgrad_seconds=seconds[0],
            jax_seconds=seconds[1],
            time_ratio=seconds[0] / seconds[1],
        )
        ours, theirs = (partial(program, *door_args) for program in programs)
        yield against(f"{name}: compiled, run", ours, theirs, bench.size(ROUNDS, 1))


def jacobian(bench: Bench) -> Iterator[Row]:
    """A function with narrow waists, where neither plain forward nor plain reverse mode is best."""
    wide = jax.random.normal(jax.random.key(0), (400, 4)) / 20
    bench.announce("jacobian")

    def hourglass(x: jax.Array) -> jax.Array:
        for _ in range(4):
            x = jnp.sin(wide @ jnp.tanh(wide.T @ x))
        return x

    x = jnp.ones(400)
    plan = cg.jacobian(hourglass).plan(x)
    ours, theirs = jax.jit(cg.jacobian(hourglass)), jax.jit(jax.jacrev(hourglass))
    least = min(plan.forward, plan.reverse)
    times = against("Jacobian of 400 to 4 to ... to 400, against jacrev", partial(ours, x), partial(theirs, x), ROUNDS)
    counts = {"multiplications": plan.multiplications, "multiplications_forward_or_reverse": least}
    yield Row(times.run, values=times.values | counts)
