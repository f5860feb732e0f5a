"""The engine without a budget against JAX's: a large graph, eager calls, compiled calls, Jacobians.

    python benchmarks/engine.py [graph|eager|compiled|jacobian] ...

Times are medians of ratios to JAX's namesake, the two in turn in one process.
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
from models import transformer
from rich.console import Console
from rich.table import Table

import ckptgrad as cg

ROUNDS = 7
GRADS = (cg.grad, jax.grad)


def seconds(run) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def ratio(ours, theirs, rounds=ROUNDS) -> tuple[float, float, float]:
    """Median seconds of ours and theirs, and the median ratio, after a first call of each."""
    seconds(ours), seconds(theirs)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, other = zip(*pairs, strict=True)
    return statistics.median(mine), statistics.median(other), statistics.median(a / b for a, b in pairs)


def deep(x):
    """5,000 operations."""
    for _ in range(1250):
        x = jnp.sin(x) * 1.01 + x
        x = x / 1.5
    return x.sum()


def traced(grad, x) -> int:
    return len(jax.make_jaxpr(grad(deep))(x).eqns)


def graph(table):
    x = jnp.ones(8)
    table.add_row("5,001 operations traced and differentiated", *show(ratio(*(partial(traced, g, x) for g in GRADS), 3)))


def eager(table):
    loss, args = transformer()
    found = ratio(lambda: cg.value_and_grad(loss)(*args), lambda: jax.value_and_grad(loss)(*args), 4)
    table.add_row("12-block transformer, eager", *show(found))


def compiled(table):
    loss, args = transformer()
    tangents = jax.tree.map(
        lambda a: jnp.ones_like(a) if a.dtype == jnp.float32 else jnp.zeros(a.shape, jax.dtypes.float0), args
    )
    pairs = {
        "value_and_grad": (cg.value_and_grad(loss), jax.value_and_grad(loss), args),
        "jvp": (lambda a, t: cg.jvp(loss, a, t), lambda a, t: jax.jvp(loss, a, t), (args, tangents)),
    }
    for name, (ours, theirs, given) in pairs.items():
        programs, made = [], []
        for fun in (ours, theirs):
            start = time.perf_counter()
            programs.append(jax.jit(fun).lower(*given).compile())
            made.append(time.perf_counter() - start)
        table.add_row(f"{name}, traced and compiled", *show((*made, made[0] / made[1])))
        table.add_row(f"{name}, run", *show(ratio(*(partial(program, *given) for program in programs))))


def jacobian(table):
    wide = jax.random.normal(jax.random.key(0), (400, 4)) / 20

    def hourglass(x):
        for _ in range(4):
            x = jnp.sin(wide @ jnp.tanh(wide.T @ x))
        return x

    x = jnp.ones(400)
    plan = cg.jacobian(hourglass).plan(x)
    ours, theirs = jax.jit(cg.jacobian(hourglass)), jax.jit(jax.jacrev(hourglass))
    table.add_row("jacobian 400 to 4 to ... to 400, run", *show(ratio(lambda: ours(x), lambda: theirs(x))))
    least = min(plan.forward, plan.reverse)
    table.add_row("  multiplications", f"{plan.multiplications:,}", f"{least:,}", f"{plan.multiplications / least:.2f}")


def show(found) -> list[str]:
    mine, other, quotient = found
    return [f"{mine:.3g} s", f"{other:.3g} s", f"{quotient:.2f}"]


CASES = {"graph": graph, "eager": eager, "compiled": compiled, "jacobian": jacobian}

if __name__ == "__main__":
    table = Table("", "ckptgrad", "JAX", "ratio", box=None)
    for name in sys.argv[1:] or CASES:
        CASES[name](table)
    Console().print(table)
