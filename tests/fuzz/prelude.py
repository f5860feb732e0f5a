"""The names that a program's source uses: modules, numbers that distinguish static arguments, and both engines' doors."""

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
# Under JAX's reverse mode, a `while_loop` is a scan of this many steps, which skips those after the loop's end.
MAX_STEPS = 12


def amount(tag: Any) -> float:
    """A number for a static argument that also differs between equal values of different types."""
    if callable(tag) and not isinstance(tag, type):
        return 1.0 + float(tag(0.3))
    if isinstance(tag, (tuple, list)):
        return 0.3 + 0.7 * sum((k + 1) * amount(t) for k, t in enumerate(tag))
    if isinstance(tag, (str, type, np.dtype, type(None))):
        return 0.5 + sum(str(tag).encode()) % 17 / 8
    # For numbers, by value and type; minus zero differs from zero.
    return 0.25 + len(type(tag).__name__) / 4 + float(tag) / 2 + math.copysign(0.1, float(tag))


def scaled_by(number: float) -> Any:
    """A callable that differs from others of its kind only by what it closes over."""
    return lambda a: number * a


def _bounded(cond: Any, body: Any, init: Any) -> Any:
    def step(carry, _):
        return lax.cond(cond(carry), body, lambda c: c, carry), None

    return lax.scan(step, init, None, length=MAX_STEPS)[0]


def _plain_scan(*args: Any, budget: Any = None, policy: Any = None, **options: Any) -> Any:
    return lax.scan(*args, **options)


def _plain_checkpoint(fun: Any, **_: Any) -> Any:
    return fun


OURS = SimpleNamespace(
    name="ours", stage=cg.stage, while_loop=lax.while_loop, checkpoint=_plain_checkpoint, scan=_plain_scan
)
# For programs that call JAX's reverse mode themselves.
OURS_UNDER_JAX = SimpleNamespace(**{**vars(OURS), "while_loop": cg.while_loop})
# Loops and checkpoints that carry their own plan, so that JAX can differentiate them.
PLANNED = SimpleNamespace(name="planned", stage=cg.stage, while_loop=cg.while_loop, checkpoint=cg.checkpoint, scan=cg.scan)
THEIRS = SimpleNamespace(
    name="theirs", stage=lambda fun: fun, while_loop=_bounded, checkpoint=_plain_checkpoint, scan=_plain_scan
)

NAMES = {
    "jax": jax, "jnp": jnp, "np": np, "lax": lax, "math": math, "partial": partial, "amount": amount,
    "scaled_by": scaled_by, "w4": w4,
}  # fmt: skip
