"""The plans by which gradients run are told."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.doors.watching import tell, watching


def test_each_plan_is_told_to_all_who_watch():
    outer, inner = [], []
    with watching(outer.append):
        cg.grad(jnp.sin)(1.0)
        with watching(inner.append):
            jax.jit(cg.grad(jnp.sin))(1.0)
    cg.grad(jnp.sin)(1.0)
    assert len(outer) == 2
    assert inner == outer[1:]
    assert all(isinstance(plan, cg.Plan) for plan in outer)
    tell(outer[0])  # nobody watches
    assert len(outer) == 2
