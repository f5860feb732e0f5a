"""An inverse problem: recover the initial condition of a viscous Burgers equation from its state after 100,000 steps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.optimize import minimize

import ckptgrad as cg
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row, row
from ckptgrad.target.allocated import compiled_memory

BUDGET = 64 * 2**20
VISCOSITY, UNTIL = 0.1, 1.0


def step(u: jax.Array, dt: float) -> jax.Array:
    """One explicit step of u_t + u u_x = viscosity u_xx on a circle."""
    dx = 2 * jnp.pi / u.shape[0]
    ahead, behind = jnp.roll(u, -1), jnp.roll(u, 1)
    return u + dt * (VISCOSITY * (ahead - 2 * u + behind) / dx**2 - (ahead**2 - behind**2) / (4 * dx))


@case("burgers", "The initial condition of a viscous Burgers equation, from its state many steps later")
def burgers(bench: Bench) -> Iterator[Row]:
    """Found by SciPy's L-BFGS, starting from zero. "Error" is the largest error of the initial condition; "gradient" is the
    time per gradient, SciPy included. jax.grad's program is compiled but not run."""
    points, steps, gradients = bench.size((1024, 100_000, 60), (64, 1000, 3))
    dt = UNTIL / steps
    assert dt <= (2 * np.pi / points) ** 2 / (2 * VISCOSITY), "the explicit step would be unstable"
    x = jnp.linspace(0, 2 * jnp.pi, points, endpoint=False)
    truth, start = jnp.sin(x) + 0.5 * jnp.cos(2 * x), jnp.zeros(points)

    def solve(u: jax.Array) -> jax.Array:
        return lax.fori_loop(0, steps, lambda _, u: step(u, dt), u)

    observed = jax.jit(solve)(truth)

    def misfit(u: jax.Array) -> jax.Array:
        return jnp.mean((solve(u) - observed) ** 2)

    group = f"{points:,} points, {steps:,} steps"
    plain = compiled_memory(jax.jit(jax.value_and_grad(misfit)).lower(start).compile())
    yield row("jax.grad", group, certified_bytes=plain.peak_bytes)
    certified = cg.value_and_grad(misfit, budget=BUDGET).compile(start)
    history: list[float] = []

    def evaluate(u: np.ndarray) -> tuple[float, np.ndarray]:
        bench.announce(f"gradient {len(history) + 1} of about {gradients}")
        value, slope = certified(jnp.asarray(u, jnp.float32))
        history.append(float(value))
        # The sum of squares, not the mean: SciPy's first steps then have a useful length.
        return history[-1] * points, np.asarray(slope, np.float64) * points

    began = time.perf_counter()
    options = {"maxfun": gradients, "ftol": 0, "gtol": 0}
    solution = minimize(evaluate, np.asarray(start, np.float64), jac=True, method="L-BFGS-B", options=options)
    seconds = (time.perf_counter() - began) / len(history)
    yield row(
        "ours",
        group,
        certified_bytes=certified.peak_bytes,
        budget_bytes=BUDGET,
        gradients=len(history),
        gradient_seconds=seconds,
        misfit_first=history[0],
        misfit_last=min(history),
        error_first=float(jnp.abs(truth).max()),
        error_last=float(jnp.abs(solution.x - truth).max()),
        note=str(certified.plan.choices[0]),
    )
