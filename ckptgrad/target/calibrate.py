# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
"""The rates of this device, measured once and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ckptgrad.target.attached import all_processes, attached, use_rates
from ckptgrad.target.rates import Rates
from ckptgrad.target.remember import remembered
from ckptgrad.target.target import Target

REPEATS = 7
_SIDE, _WIDE = 1024, 1 << 25
_STEPS, _TURNS = 32, 4096
_MEASURED = ("product_rate", "element_rate", "transcendental_rate", "write_rate", "read_rate", "launch")
_SCALED = ("half_rate", "exact_rate", "double_rate")


def calibrate() -> Rates:
    """Measure the rates by which plans estimate times on the default device, and use them from now on.

    Takes about a second, once per device: the rates are remembered on disk. Without it, rates of a typical device of the
    platform are used. Of processes that `jax.distributed` has joined all must call it, and use the rates of the first, so
    that they plan alike.

    Returns:
        The rates: floating point operations per second in products, elementwise operations, transcendental functions,
        bytes per second written to fresh memory (page faults included) and read.

    Example:
        >>> import ckptgrad as cg
        >>> cg.calibrate().product_rate > 0
        True
    """
    target = attached()
    measured_rates = all_processes().first("measuring rates", lambda: _measured(target))
    known = target.rates
    # Other precisions are taken to differ from what is published as much as the one that was measured does.
    faster = measured_rates["product_rate"] / known.product_rate
    scaled = {name: rate * faster for name in _SCALED if (rate := getattr(known, name)) is not None}
    rates = replace(known, **measured_rates, **scaled)
    use_rates(target, rates)
    return rates


def _measured(target: Target) -> dict[str, float]:
    measured = cache(measure_rates)
    return {
        name: remembered(target, f"rate: {name}", "", lambda n=name: getattr(measured(), n), positive=name.endswith("_rate"))
        for name in _MEASURED
    }


def measure_rates() -> Rates:
    """The rates of the default device, from six small programs."""
    matrix = jnp.ones((_SIDE, _SIDE))
    small = jnp.linspace(0.1, 0.9, 1 << 18)
    wide = jnp.ones(_WIDE)
    scalar = jnp.ones(())

    def chain(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for _ in range(_STEPS):
                x = step(x)
            return x

        return run

    product = _best(lambda a: a @ a, matrix)
    element = _best(chain(lambda x: x * x + 0.1), small)
    function = _best(chain(jnp.tanh), small)
    written = _best(lambda s: lax.broadcast(s, (_WIDE,)), scalar)
    read = _best(jnp.sum, wide)
    # Launch overhead: two unfused operations minus their arithmetic.
    rows, side = 8, 32
    cell = jnp.eye(side)
    turn = _best(lambda x: lax.fori_loop(0, _TURNS, lambda _, x: jnp.tanh(x @ cell), x), jnp.ones((rows, side))) / _TURNS
    arithmetic = 2 * rows * side**2 * product / (2 * _SIDE**3) + rows * side * function / (_STEPS * small.size)
    return Rates(
        2 * _SIDE**3 / product,
        2 * _STEPS * small.size / element,
        _STEPS * small.size / function,
        wide.nbytes / written,
        wide.nbytes / read,
        max(turn - arithmetic, 0.0) / 2,
    )


def _best(function: Callable[..., Any], *args: Any) -> float:
    """Seconds of the fastest of some runs."""
    compiled = jax.jit(function).lower(*args).compile()
    return best_seconds(lambda: compiled(*args), REPEATS)


def best_seconds(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some calls, results waited for, after one to warm up."""
    jax.block_until_ready(run())
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        durations.append(time.perf_counter() - start)
    return min(durations)
