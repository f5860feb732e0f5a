"""Gradients of models that are spread over eight devices: those of `jax.grad`, in their shardings, within every budget."""

from __future__ import annotations

import contextlib

import jax
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.errors import BudgetError
from tests.cases.devices import WAYS
from tests.support.devices import on_devices


def check(way: str, *budgets: str | None) -> None:
    jax.config.update("jax_enable_x64", True)
    loss, args = WAYS[way]()
    wanted = jax.jit(jax.value_and_grad(loss, (0, 1)))(*args)
    for budget in budgets:
        with contextlib.suppress(BudgetError) if budget in ("0.5x", "0.25x") else contextlib.nullcontext():
            compiled = cg.value_and_grad(loss, (0, 1), budget=budget).compile(*args)
            assert compiled.budget is None or compiled.peak_bytes <= compiled.budget
            check_same(compiled(*args), wanted)


def check_same(found, wanted) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for f, w in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12 * np.abs(w).max())
        assert f.sharding.is_equivalent_to(w.sharding, w.ndim), (f.sharding, w.sharding)


def test_gradients_over_devices():
    on_devices(8, __name__, "check('data x tensor', 'min')")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_gradients_over_devices_within_every_budget(way):
    on_devices(8, __name__, f"check({way!r}, None, '0.5x', '0.25x', 'min')")
