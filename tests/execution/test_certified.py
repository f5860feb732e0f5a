"""What `.compile` returns: what it tells of itself, and how far off its plan was."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.program import forget_kinds

X = jnp.linspace(-1, 1, 512 * 32).reshape(512, 32)
WS = [jnp.linspace(-0.5, 0.5, 32 * 32).reshape(32, 32) / (k + 1) for k in range(8)]


def loss(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return (x**2).mean()


def test_plans_tell_how_far_off_they_were_once_they_ran():
    door = cg.value_and_grad(loss, budget="0.7x", costs="compile")
    assert "observed" not in str(door.plan(WS, jnp.concatenate([X, X])))
    safe = door.compile(WS, X)
    plan = cg.plan(loss, WS, X, budget=safe.plan.budget, costs="compile")
    assert plan.found.peak_bytes == safe.peak_bytes
    assert plan.found.seconds is None
    assert f"({safe.peak_bytes / plan.peak_bytes - 1:+.1%})" in str(plan)
    comparison = safe.compare(WS, X)
    assert plan.found.seconds == comparison.seconds > 0
    assert "s per call" in str(plan)
    assert plan.to_dict()["found_peak_bytes"] == safe.peak_bytes


def test_a_certificate_prints_as_a_small_table():
    safe = cg.value_and_grad(loss, budget="0.5x").compile(WS, X)
    lines = str(safe).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "certified",
        "temporaries",
        "outputs",
        "gradients",
        "arguments",
        "budget",
        "predicted",
        "plan",
        "compiled for",
    ]
    assert f"{safe.peak_bytes / 2**10:.1f} KiB" in lines[0]
    assert max(map(len, lines)) < 100
    assert repr(safe) == str(safe)


def test_a_certificate_says_what_was_expected_from_other_plans(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTGRAD_CACHE", str(tmp_path))
    first = cg.value_and_grad(loss, budget="0.9x").compile(WS, X)
    assert first.expected_bytes == first.plan.peak_bytes
    assert "expected" not in str(first)
    second = cg.value_and_grad(loss, budget="0.5x").compile(WS, X)
    assert second.expected is not None
    assert second.expected.others > 0
    assert f"expected from what {second.expected.others} other plan" in str(second)
    forget_kinds()


def test_it_is_no_function_to_transform():
    """As what JAX compiled: a TypeError that says so, however it is asked for."""
    found = cg.value_and_grad(loss).compile(WS, X)
    for transformed in (jax.jit(found), jax.grad(lambda ws, x: found(ws, x)[0])):
        with pytest.raises(TypeError, match="Cannot apply JAX transformations"):
            transformed(WS, X)
