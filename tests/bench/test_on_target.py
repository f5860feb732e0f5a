"""Programs compiled for a target, and why not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.bench.on_target import RefusedError, for_target, kept_values, plan_for, rival_for
from ckptgrad.bench.rows import row

CPU = cg.target("cpu")
ARGS = ([jnp.ones((16, 16))] * 4, jnp.ones((64, 16)))


def loss(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return jnp.sum(x**2)


def test_rows_are_those_for_the_target():
    assert [r.run for r in for_target("cpu", lambda target: iter([row(target.platform.name)]))] == ["cpu"]


def test_plans_and_rivals_are_compiled():
    executable, seconds = rival_for(CPU, loss, ARGS)
    assert seconds > 0
    certified, seconds = plan_for(CPU, loss, ARGS, "min")
    assert seconds > 0
    assert certified.peak_bytes <= CPU.allocated(executable).peak_bytes
    assert kept_values(certified)["predicted_bytes"] == certified.plan.peak_bytes
    within, _ = plan_for(CPU, loss, ARGS, certified.peak_bytes)
    assert kept_values(within)["budget_bytes"] == certified.peak_bytes
    assert kept_values(within)["kept"] is True


def test_a_budget_below_the_smallest_plan_is_refused_in_words():
    with pytest.raises(RefusedError, match=r"1.0 KiB is less than the smallest possible, .* KiB"):
        plan_for(CPU, loss, ARGS, 1024)


def test_what_the_compiler_refuses_is_refused_with_its_first_words(monkeypatch):
    def refuse(*_):
        raise jax.errors.JaxRuntimeError("out of memory\nand a table")

    monkeypatch.setattr(cg.Target, "compile", refuse)
    with pytest.raises(RefusedError, match=r"^out of memory$"):
        rival_for(CPU, loss, ARGS)
