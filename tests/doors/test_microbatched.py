"""Gradients in microbatches: the same values in fewer bytes, and said so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg

WIDTH, HIDDEN, BATCH = 8, 128, 16
WS = [np.random.default_rng(k).normal(size=(WIDTH, HIDDEN)) / 4 for k in range(2)]
BATCHES = {"x": np.random.default_rng(9).normal(size=(BATCH, WIDTH)), "kept": np.arange(BATCH) % 3 > 0}


def loss(ws, batch, key):
    """With dropout, a mask and a penalty."""
    x = batch["x"]
    for w in ws:
        hidden = jnp.tanh(x @ w)
        x = x + jnp.where(jax.random.bernoulli(key, 0.5, hidden.shape), hidden, 0.0) @ w.T
    return jnp.mean(x**2 * batch["kept"][:, None]) + 0.1 * sum(jnp.sum(w**2) for w in ws)


def assert_near(found, expected, error):
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=error, atol=error)


def test_value_and_gradients_are_those_of_the_whole_batch(x64):
    args = WS, BATCHES, jax.random.key(3)
    found = jax.jit(cg.value_and_grad(loss, microbatches=4))(*args)
    assert_near(found, jax.value_and_grad(loss)(*args), 1e-13)


def test_they_are_certified_within_a_budget_that_the_whole_batch_exceeds():
    ws, args = [w.astype("float32") for w in WS], (BATCHES, jax.random.key(3))
    whole = cg.grad(loss, budget="min", costs="estimate").compile(ws, *args)
    parts = cg.grad(loss, budget=whole.peak_bytes - 1000, microbatches=8).compile(ws, *args)
    assert parts.peak_bytes < whole.peak_bytes
    assert str(parts.plan.microbatches) == "8 of 2 along axis 0 of batch['x']"
    assert "8 of 2 along axis 0" in str(parts.plan)
    assert_near(parts(ws, *args), whole(ws, *args), 1e-5)


def test_auto_takes_as_many_as_the_budget_asks_for():
    args = [w.astype("float32") for w in WS], BATCHES, jax.random.key(3)
    assert cg.plan(loss, *args, microbatches="auto").microbatches is None
    roomy, least = (cg.plan(loss, *args, budget=b, microbatches="auto", costs="estimate") for b in (2**30, "min"))
    assert roomy.microbatches is None
    assert least.microbatches.count > 1
    assert least.peak_bytes < cg.plan(loss, *args, budget="min", costs="estimate").peak_bytes


def test_of_a_loss_that_is_no_sum_auto_leaves_the_batch_whole():
    mixed = lambda w, x: jnp.sqrt(jnp.sum((x @ w) ** 2))
    assert cg.plan(mixed, jnp.ones((3, 4)), jnp.ones((8, 3)), budget="min", microbatches="auto").microbatches is None
    with pytest.raises(cg.OptionError, match="not proved to be a sum"):
        cg.plan(mixed, jnp.ones((3, 4)), jnp.ones((8, 3)), microbatches=2)


@pytest.mark.parametrize("count", [0, -1, "many", 2.5, True])
def test_a_number_that_is_none_is_refused(count):
    with pytest.raises(cg.OptionError, match="microbatches="):
        cg.grad(loss, microbatches=count)


def test_a_budget_below_the_sums_names_what_would_do():
    with pytest.raises(cg.BudgetError):
        cg.plan(loss, WS, BATCHES, jax.random.key(3), budget=100, microbatches=4)


def test_they_are_not_run_stage_by_stage():
    with pytest.raises(cg.OptionError, match="microbatches="):
        cg.grad(loss, microbatches=2, runtime="staged")


def test_weak_types_stay_weak():
    x = np.ones((4, 3))
    whole, parts = (
        gradient(lambda scale, x: jnp.mean(jnp.tanh(x * scale) ** 2))(2.0, x)
        for gradient in (jax.value_and_grad, lambda f: cg.value_and_grad(f, microbatches=2))
    )
    assert [a.weak_type for a in whole] == [a.weak_type for a in parts] == [False, True]
