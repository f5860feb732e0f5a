"""Doors that only look take Equinox modules as they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.modules import open_modules

eqx = pytest.importorskip("equinox")

MODEL = eqx.nn.MLP(4, 2, 4, 1, key=jax.random.key(0))
X = jnp.ones((3, 4))


def loss(model, x, scale=1.0):
    return scale * jnp.sum(jax.vmap(model)(x) ** 2)


def test_plans_are_those_of_the_gradient_of_arrays():
    planned, as_equinox = cg.plan(loss, MODEL, X), cg.eqx.filter_value_and_grad(loss).plan(MODEL, X)
    assert planned.peak_bytes == as_equinox.peak_bytes
    assert "model.layers[1]" in str(planned)
    assert planned.program.argument_bytes == {"model": 4 * (4 * 4 + 4 + 4 * 2 + 2), "x": X.nbytes}


def test_modules_inside_of_arguments():
    plan = cg.plan(lambda both, x: loss(both["a"], x) + loss(both["b"], x), {"a": MODEL, "b": MODEL}, X)
    assert plan.peak_bytes >= cg.plan(loss, MODEL, X).peak_bytes


@pytest.mark.slow
def test_other_doors_that_look():
    assert cg.timeline(loss, MODEL, X, observe=()).peak_bytes > 0
    assert cg.frontier(loss, MODEL, X).points
    assert cg.validate(loss, MODEL, X, policies=["optimal"], meters=(), repeats=1).passed


def test_what_holds_no_module_stays_as_it_is():
    args, kwargs = ({"w": X}, "mode"), {"scale": 2}
    assert open_modules(loss, args, kwargs) == (loss, args, kwargs)


def test_a_gradient_says_what_to_use():
    with pytest.raises(cg.errors.GradientTypeError, match="filter_value_and_grad differentiates the arrays"):
        cg.grad(loss)(MODEL, X)
