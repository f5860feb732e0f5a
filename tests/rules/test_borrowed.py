"""Rules borrowed from JAX: named, in both modes, and shown wherever they were used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import ckptgrad as cg
from ckptgrad.autodiff.rule import unregister

cube_p = Primitive("borrowed_cube")
cube_p.def_impl(lambda x: x**3)
cube_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(cube_p, mlir.lower_fun(lambda x: x**3, multiple_results=False))
batching.defvectorized(cube_p)
ad.defjvp(cube_p, lambda g, x: 3 * x**2 * g)
X = jnp.array([0.3, 1.5])


@pytest.fixture
def borrowed():
    cg.use_jax_rule(cube_p)
    yield
    unregister("borrowed_cube")


def loss(x):
    x, _ = jax.lax.scan(lambda c, _: (cube_p.bind(jnp.sin(c)), None), x, None, length=2)
    return cube_p.bind(x).sum()


def test_nothing_is_borrowed_unasked():
    with pytest.raises(cg.MissingRuleError, match="borrowed_cube"):
        cg.grad(loss)(X)


@pytest.mark.usefixtures("borrowed")
def test_both_modes():
    np.testing.assert_allclose(jax.jit(cg.grad(loss))(X), jax.grad(loss)(X), rtol=1e-5)
    np.testing.assert_allclose(cg.jvp(loss, (X,), (X,))[1], jax.jvp(loss, (X,), (X,))[1], rtol=1e-5)
    np.testing.assert_allclose(cg.hessian(loss)(X), jax.hessian(loss)(X), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("borrowed")
def test_every_report_says_so():
    inside_a_loop = cg.plan(lambda x: jax.lax.scan(lambda c, _: (cube_p.bind(c), None), x, None, length=2)[0].sum(), X)
    assert inside_a_loop.borrowed == ["borrowed_cube"]
    plan = cg.plan(loss, X)
    assert plan.to_dict()["borrowed_rules"] == ["borrowed_cube"]
    assert "borrowed_cube" in str(plan)
    table = cg.validate(loss, X, meters=(), repeats=1)
    assert table.to_dict()["borrowed_rules"] == ["borrowed_cube"]
    assert "borrowed from JAX" in str(table)


def test_without_borrowing_no_report_mentions_it():
    assert "borrowed rules" not in str(cg.plan(lambda x: jnp.sin(x).sum(), X))


@pytest.mark.usefixtures("borrowed")
def test_twice_is_an_error():
    with pytest.raises(ValueError, match="borrowed_cube"):
        cg.use_jax_rule("borrowed_cube")
