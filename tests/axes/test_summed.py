"""A scalar that is a sum over chunks: what is linear in totals, and shares of what does not depend on the cut."""

import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.axes.summed import summed

W, X = np.linspace(-1, 1, 15).reshape(3, 5), np.linspace(-2, 1, 18).reshape(6, 3)


def loss_for(function):
    graph = cg.trace(function, jnp.asarray(W), jnp.asarray(X))
    return summed(graph, {graph.inputs[1]: 0})


SUMS = {
    "a mean": lambda w, x: jnp.mean((x @ w) ** 2),
    "a scaled difference": lambda w, x: -2.0 * (jnp.sum(jnp.sin(x @ w)) - jnp.sum(x) / 3),
    "a penalty": lambda w, x: jnp.mean(jnp.tanh(x @ w)) + 0.1 * jnp.sum(w**2),
    "divided by what is whole": lambda w, x: jnp.sum(x @ w) / jnp.sum(w**2),
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("entries", [1, 2, 3])
def test_summands_add_up(x64, name, entries):
    loss = loss_for(SUMS[name])
    parts = [loss.part(start, entries, [jnp.asarray(W), jnp.asarray(X)]) for start in range(0, 6, entries)]
    np.testing.assert_allclose(sum(parts), SUMS[name](W, X), rtol=1e-13)


NO_SUMS = {
    "a root": lambda w, x: jnp.sqrt(jnp.sum((x @ w) ** 2)),
    "a ratio of totals": lambda w, x: jnp.sum(x @ w) / jnp.sum(x**2),
    "a product of totals": lambda w, x: jnp.sum(x @ w) * jnp.sum(x),
    "a maximum": lambda w, x: jnp.max(x @ w),
    "entries are mixed": lambda w, x: jnp.sum((x @ w - (x @ w).mean(0)) ** 2),
    "not a scalar": lambda w, x: jnp.sum(x @ w, 0),
    "what is cut is not used": lambda w, x: jnp.sum(w**2) + 0 * x.shape[0],
}


@pytest.mark.parametrize("name", NO_SUMS)
def test_what_is_not_proved_is_no_sum(name):
    assert loss_for(NO_SUMS[name]) is None
