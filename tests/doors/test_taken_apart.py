"""That a jax.checkpoint is taken apart is said once for each function, wherever it stands in it."""

from __future__ import annotations

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.taken_apart import checkpoints

X = jnp.ones(4)


def straight(x):
    return jnp.sum(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))(x))


def inside_a_scan(x):
    return jnp.sum(jax.lax.scan(lambda c, _: (jax.checkpoint(jnp.sin)(c), None), x, None, length=3)[0])


def inside_a_branch(x):
    return jnp.sum(jax.lax.cond(x[0] > 0, jax.checkpoint(jnp.sin), jnp.cos, x))


def inside_a_jit(x):
    return jnp.sum(jax.jit(jax.checkpoint(jnp.sin))(x))


def none(x):
    return jnp.sum(jax.jit(jnp.sin)(x)) + jnp.sum(jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3)[0])


WITH = [straight, inside_a_scan, inside_a_branch, inside_a_jit]


def fresh(fun):
    """Another function that does the same."""
    return lambda x: fun(x)


def said(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [w for w in caught if w.category is cg.CheckpointWarning]


@pytest.mark.parametrize("fun", WITH)
def test_it_is_said_once_for_each_function(fun):
    new = fresh(fun)
    (warning,) = said(lambda: cg.grad(new)(X))
    assert warning.filename == __file__
    assert "<lambda> (" in str(warning.message)
    assert f"inside <lambda> ({__file__}:" in str(warning.message)
    assert said(lambda: cg.grad(new)(X)) == said(lambda: cg.plan(partial(new), X)) == []
    assert len(said(lambda: cg.plan(fresh(fun), X))) == 1


def test_nothing_is_said_without_one_or_where_nothing_is_planned():
    assert said(lambda: cg.grad(fresh(none))(X)) == []
    assert said(lambda: cg.jvp(fresh(straight), (X,), (X,))) == []
    assert said(lambda: cg.trace(fresh(straight), X)) == []


def test_methods_are_functions_of_their_class():
    class Model:
        def loss(self, x):
            return straight(x)

    model = Model()
    assert len(said(lambda: cg.grad(model.loss)(X))) == 1
    assert said(lambda: cg.grad(model.loss)(X)) == []


def test_a_policy_is_pointed_to_saveable():
    policy = jax.checkpoint_policies.dots_saveable
    (warning,) = said(lambda: cg.grad(lambda x: jnp.sum(jax.checkpoint(jnp.sin, policy=policy)(x)))(X))
    assert warning.message.source.file == __file__
    assert "saveable=" in str(warning.message)
    assert "saveable=" not in str(said(lambda: cg.grad(fresh(straight))(X))[0].message)


def test_filters_are_pythons():
    with warnings.catch_warnings():
        warnings.simplefilter("error", cg.CheckpointWarning)
        with pytest.raises(cg.CheckpointWarning):
            cg.grad(fresh(straight))(X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=cg.CheckpointWarning)
        cg.grad(fresh(straight))(X)
    assert caught == []


def test_by_default_a_line_is_named_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            cg.grad(lambda x: straight(x))(X)
    assert len(caught) == 1


@pytest.mark.parametrize("fun", WITH)
def test_all_are_found(fun):
    assert len([*checkpoints(jax.make_jaxpr(lambda x: fun(x) + fun(2 * x))(X))]) >= 1
    assert not [*checkpoints(jax.make_jaxpr(none)(X))]
