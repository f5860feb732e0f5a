"""Rules that close over what their function computes around them are refused, wherever they would run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg

W, X = jnp.eye(3), jnp.ones((2, 3))


def scaled_gradient(scale):
    @jax.custom_vjp
    def identity(y):
        return y * 1.0

    identity.defvjp(lambda y: (y * 1.0, None), lambda _, g: (g * scale,))
    return identity


def scaled_tangent(scale):
    @jax.custom_jvp
    def identity(y):
        return y * 1.0

    identity.defjvp(lambda primals, tangents: (primals[0] * 1.0, tangents[0] * scale))
    return identity


def loss(w, x, rule=scaled_gradient, scale=jnp.sum):
    return jnp.sum(rule(scale(x))(x @ w) ** 2)


@pytest.mark.parametrize(
    "run",
    [
        lambda loss: cg.grad(loss)(W, X),
        lambda loss: jax.jit(cg.grad(loss, budget="min"))(W, X),
        lambda loss: cg.grad(loss).compile(W, X),
        lambda loss: cg.grad(loss, runtime="staged")(W, X),
        lambda loss: cg.plan(loss, W, X),
        lambda loss: cg.vjp(lambda w: loss(w, X * w[0, 0]), W),
    ],
    ids=["called", "jitted", "compiled", "staged", "planned", "vjp"],
)
@pytest.mark.parametrize("rule", [scaled_gradient, scaled_tangent])
def test_what_is_gone_when_the_rule_runs_is_refused(rule, run):
    with pytest.raises(cg.NoDerivativeError, match=r"test_captured.py:\d+ .*closes over a value.*make it an argument"):
        run(lambda w, x: loss(w, x, rule))


@pytest.mark.parametrize("rule", [scaled_gradient, scaled_tangent])
def test_what_stays_may_be_closed_over(rule):
    """NumPy's arrays, arrays from outside, and what a transformation around the gradient traces."""

    def around(gradient, x):
        total = jnp.sum(x)
        return [gradient(lambda w, s=s: loss(w, X, rule, lambda _: s))(W) for s in (total, np.float32(2), X[0])]

    for outer in (jax.jit, lambda function: function):
        ours, theirs = (outer(lambda x, g=g: around(g, x))(X) for g in (cg.grad, jax.grad))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
