"""Which gradients run stage by stage."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors import staging
from ckptgrad.errors import OptionError, StagedError
from ckptgrad.execution.staged.gradient import StagedExecutable
from tests.cases.tanh import tanh_arguments, tanh_loss

WS, X = tanh_arguments(8, 16, layers=4)


def is_staged(runtime):
    return isinstance(cg.grad(tanh_loss, runtime=runtime).compile(WS, X).executable, StagedExecutable)


def test_what_is_asked_for():
    assert [is_staged("compiled"), is_staged("staged")] == [False, True]
    with pytest.raises(OptionError, match="compiled, staged, auto"):
        cg.grad(tanh_loss, runtime="fast")


def test_auto_is_staged_where_one_program_would_be_long(monkeypatch):
    assert not is_staged("auto")
    monkeypatch.setattr(staging, "LONG", 5)
    assert is_staged("auto")
    traced = jax.jit(cg.grad(tanh_loss, runtime="auto"))(WS, X)
    assert jax.tree.structure(traced) == jax.tree.structure(WS)


def test_references_are_read_anew_at_each_call_and_refused_where_they_would_not_be():
    scale = jax.new_ref(jnp.ones(()))
    gradient = cg.grad(lambda x: jnp.sum(jnp.sin(x) * scale[...]), runtime="staged")
    first = gradient(jnp.zeros(3))
    scale[...] = jnp.full((), 3.0)
    assert (gradient(jnp.zeros(3)) == 3 * first).all()
    with pytest.raises(StagedError, match="mutable reference"):
        gradient.compile(jnp.zeros(3))
