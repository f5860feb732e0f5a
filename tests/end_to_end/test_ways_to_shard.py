"""Gradients of models that are spread over eight devices: those of `jax.grad`, in their shardings, within every budget."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.target.allocated import compiled_memory
from tests.cases.devices import LARGE, SMALL, WAYS
from tests.support.devices import on_devices


def check(way: str, *budgets: str | float | None, size=SMALL, off: float = 0.15) -> None:
    """Within budgets, of which a number is a share of what `jax.grad` takes; predictions are off by a share.

    The compiler may pack the few arrays that a small model holds worse than end to end.
    """
    jax.config.update("jax_enable_x64", True)
    loss, args = WAYS[way](size=size)
    rival = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*args).compile()
    wanted, most = rival(*args), compiled_memory(rival).peak_bytes
    for budget in budgets:
        within = int(budget * most) if isinstance(budget, float) else budget
        compiled = cg.value_and_grad(loss, (0, 1), budget=within).compile(*args)
        assert compiled.budget is None or compiled.peak_bytes <= compiled.budget
        check_same(compiled(*args), wanted)
        looped = "loop" in way or "scanned" in way or "recurrence" in way
        share = 0.05 if looped else off
        assert (1 - share) * compiled.plan.peak_bytes <= compiled.peak_bytes <= (1 + share) * compiled.plan.peak_bytes


def check_large(way: str) -> None:
    check(way, None, 0.5, 0.25, "min", size=LARGE)


def check_same(found, wanted) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12 * np.abs(w).max())
        assert f.sharding.is_equivalent_to(w.sharding, w.ndim), (f.sharding, w.sharding)


def check_large_budget() -> None:
    """A loop whose plan within more than storing takes is another one than without a budget: it is asked about too."""
    check("scanned, data parallel", 0.5, size=SMALL._replace(steps=12, rows=4096))


def test_gradients_over_devices():
    on_devices(8, __name__, "check('data x tensor', 'min', off=0.03); check('experts', 'min'); check_large_budget()")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_gradients_over_devices_within_every_budget(way):
    on_devices(8, __name__, f"check_large({way!r})")
