"""What the source of a program reads: modules, numbers that tell static arguments apart, the doors of both engines."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import ckptgrad as cg

w4 = np.array([1.0, -0.7, 0.4, 1.9])
# A `while_loop` under JAX's reverse mode is a scan of so many steps, those after the end being skipped.
MOST_STEPS = 12


def amount(tag: Any) -> float:
    """A number for a static argument: different for values that are equal but of different type."""
    if callable(tag) and not isinstance(tag, type):
        return 1.0 + float(tag(0.3))
    if isinstance(tag, (tuple, list)):
        return 0.3 + 0.7 * sum((k + 1) * amount(t) for k, t in enumerate(tag))
    if isinstance(tag, (str, type, np.dtype, type(None))):
        return 0.5 + sum(str(tag).encode()) % 17 / 8
    # Of numbers by value and by type; minus zero is told from zero.
    return 0.25 + len(type(tag).__name__) / 4 + float(tag) / 2 + math.copysign(0.1, float(tag))


def scaled_by(number: float) -> Any:
    """A callable that differs from its like by what it closes over."""
    return lambda a: number * a


def _bounded(cond: Any, body: Any, init: Any) -> Any:
    def step(carry, _):
        return lax.cond(cond(carry), body, lambda c: c, carry), None

    return lax.scan(step, init, None, length=MOST_STEPS)[0]


def _plain_scan(*args: Any, budget: Any = None, policy: Any = None, **options: Any) -> Any:
    return lax.scan(*args, **options)


def _plain_checkpoint(fun: Any, **_: Any) -> Any:
    return fun


OURS = SimpleNamespace(
    name="ours", stage=cg.stage, while_loop=lax.while_loop, checkpoint=_plain_checkpoint, scan=_plain_scan
)
# Where a program calls JAX's reverse mode itself.
INSIDE = SimpleNamespace(**{**vars(OURS), "while_loop": cg.while_loop})
# Loops and checkpoints that carry a plan of their own, so that JAX differentiates them.
PLANNED = SimpleNamespace(name="planned", stage=cg.stage, while_loop=cg.while_loop, checkpoint=cg.checkpoint, scan=cg.scan)
THEIRS = SimpleNamespace(
    name="theirs", stage=lambda fun: fun, while_loop=_bounded, checkpoint=_plain_checkpoint, scan=_plain_scan
)

NAMES = {
    "jax": jax, "jnp": jnp, "np": np, "lax": lax, "math": math, "partial": partial, "amount": amount,
    "scaled_by": scaled_by, "w4": w4,
}  # fmt: skip
