"""Values kept in fewer bytes: what each encoding saves, takes and does to the gradient."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.bench.measure import certified_program, compare_programs, peer_program
from ckptgrad.bench.registry import Bench, case
from ckptgrad.bench.rows import Row
from ckptgrad.stage.encodings.encoding import get_encoding, registered

ROUNDS, QUICK_ROUNDS = 7, 2
SHARE = 0.6
SIZES, QUICK_SIZES = (16, 256, 4096), (8, 32, 256)


def loss(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    """GELU layers and a mean of squares."""
    for w in weights:
        x = jax.nn.gelu(x @ w)
    return jnp.mean(x**2)


@case("encodings", "Values kept as bfloat16, int8 and float8: 16 GELU layers, 4096 x 256")
def encodings(bench: Bench) -> Iterator[Row]:
    """Within 60 % of the bytes of the plan without a budget, with no encoding and with each. "Difference" is the largest
    relative difference of a gradient from jax.grad's: with an encoding it is inexact on purpose.
    """
    layers, width, batch = bench.size(SIZES, QUICK_SIZES)
    keys = jax.random.split(jax.random.key(0), layers + 1)
    weights = [jax.random.normal(k, (width, width)) / width**0.5 for k in keys[1:]]
    args = (weights, jax.random.normal(keys[0], (batch, width)))
    budget = int(SHARE * cg.plan(loss, *args).peak_bytes)
    programs = [peer_program("jax.grad", jax.value_and_grad(loss), args), certified_program("no budget", loss, args)]
    for name in ("", *(name for name in registered() if not get_encoding(name).is_exact)):
        run = f"{SHARE:.0%}{f', {name}' if name else ''}"
        bench.announce(run)
        programs.append(certified_program(run, loss, args, budget, encodings=name or ()))
    yield from compare_programs(programs, bench.size(ROUNDS, QUICK_ROUNDS))
