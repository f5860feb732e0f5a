"""How the scratch of a stage goes over time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.stage_course import backward_course, forward_course

X, W = jnp.ones((64, 16)), jnp.eye(16)


def kind_of(fun):
    (kind,) = cg.plan(fun, W, X, costs="estimate").program.kinds
    return kind


def test_without_a_loop_there_is_nothing_to_tell():
    kind = kind_of(lambda w, x: jnp.tanh(x @ w).sum())
    assert forward_course(kind, None) == forward_course(kind, 0) == backward_course(kind, 0) == []


def test_in_a_loop_it_goes_up_and_down_with_the_steps():
    kind = kind_of(lambda w, x: jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0].sum())
    for course in (forward_course(kind, None), backward_course(kind, 0)):
        assert len(course) > 5
        assert all(seconds >= 0 and held >= 0 for seconds, held in course)
    plain, kept = forward_course(kind, None), forward_course(kind, 0)
    assert sum(s for s, _ in plain) == pytest.approx(sum(s for s, _ in kept), rel=1.0)
    assert max(held for _, held in backward_course(kind, 0)) > 0
