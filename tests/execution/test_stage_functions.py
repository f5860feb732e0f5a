"""The functions of a kind of stage: made once, and of open stages without repetitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.execution.stage_functions import StageFunctions, stage_functions
from ckptgrad.target.platform import Isolation

W, X = jnp.eye(3) * 0.5, jnp.linspace(0.1, 1.0, 6).reshape(2, 3)


def deep(w, x):
    return (jnp.sin(jnp.tanh(x @ w) @ w) ** 2).sum()


def test_runs_of_a_kind_are_made_once():
    kind = cg.plan(deep, W, X, policy="recompute_all").program.kinds[0]
    functions = stage_functions(kind)
    assert stage_functions(kind) is functions is stage_functions(kind, kind.target.platform.isolation)
    assert functions.forward(0) is functions.forward(0)
    assert functions.backward(0) is not functions.backward(0, (0,))


def test_in_a_program_of_open_stages_a_backward_repeats_nothing():
    """Whatever the option, backwards read what the forward made; codes and what a user says may be kept stay as they are."""
    kind = cg.plan(deep, W, X, policy="recompute_all").program.kinds[0]
    functions = StageFunctions(kind, Isolation.NONE, opened=True)
    assert any(option.partition.recomputed for option in kind.options)
    assert not any(functions.part(keep).recomputed for keep in range(len(kind.options)))
    named = cg.plan(deep, W, X, saveable=jax.checkpoint_policies.nothing_saveable).program.kinds[0]
    asked = StageFunctions(named, Isolation.NONE, opened=True)
    assert [asked.part(keep) for keep in range(len(named.options))] == [option.partition for option in named.options]
