"""The functions of a kind of stage: made once, and of open stages without repetitions."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution.stage_functions import StageFunctions, stage_functions
from ckptgrad.target.platform import Isolation
from ckptgrad.target.target import described

W, X = jnp.eye(3) * 0.5, jnp.linspace(0.1, 1.0, 6).reshape(2, 3)


def deep(w, x):
    return (jnp.sin(jnp.tanh(x @ w) @ w) ** 2).sum()


def test_runs_of_a_kind_are_made_once():
    kind = cg.plan(deep, W, X, policy="recompute_all").program.kinds[0]
    functions = stage_functions(kind)
    assert stage_functions(kind) is functions is stage_functions(kind, kind.target.platform.isolation)
    assert functions.forward(0) is functions.forward(0)
    assert functions.backward(0) is not functions.backward(0, (0,))


@pytest.mark.parametrize(("platform", "rounded"), [("tpu", True), ("cuda", False), ("cpu", False)])
def test_what_a_forward_keeps_is_rounded_where_the_platform_wants_that(platform, rounded):
    """Products, by isolated stages."""

    def loss(w, x):
        return ((jax.nn.gelu(x @ w) @ w.T) ** 2).sum()

    kinds = cg.plan(loss, jnp.ones((8, 64)), jnp.ones((16, 8)), target=described(platform), costs="estimate").program.kinds
    products = {v for kind in kinds for op in kind.joint.forward_operations if op.name == "dot_general" for v in op.outputs}
    options = ((kind, k, option) for kind in kinds for k, option in enumerate(kind.options))
    kind, keep = next((kind, k) for kind, k, option in options if products & {*option.partition.residuals})

    def text(functions, keep):
        run, call = functions.forward(keep)
        return str(jax.make_jaxpr(call)([jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in run.reads]))

    assert ("reduce_precision" in text(stage_functions(kind), keep)) == rounded
    assert "reduce_precision" not in text(stage_functions(kind), None)
    assert "reduce_precision" not in text(StageFunctions(kind, Isolation.NONE, opened=True), keep)


def test_in_a_program_of_open_stages_a_backward_repeats_nothing():
    """Whatever the option, backwards read what the forward made; codes and what a user says may be kept stay as they are."""
    kind = cg.plan(deep, W, X, policy="recompute_all").program.kinds[0]
    functions = StageFunctions(kind, Isolation.NONE, opened=True)
    assert any(option.partition.recomputed for option in kind.options)
    assert not any(functions.part(keep).recomputed for keep in range(len(kind.options)))
    named = cg.plan(deep, W, X, saveable=jax.checkpoint_policies.nothing_saveable).program.kinds[0]
    asked = StageFunctions(named, Isolation.NONE, opened=True)
    assert [asked.part(keep) for keep in range(len(named.options))] == [option.partition for option in named.options]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_what_a_forward_keeps_rounded_is_what_it_keeps_bit_by_bit(dtype):
    """Of which backwards, which are the same, make the same gradients."""

    def loss(w, x):
        return ((jax.nn.gelu(x @ w) @ w.T) ** 2).sum()

    with jax.enable_x64(dtype == "float64"):
        x = jnp.cos(jnp.arange(16 * 8)).reshape(16, 8).astype(dtype)
        w = jnp.sin(jnp.arange(8 * 64)).reshape(8, 64).astype(dtype)
        found = []
        for rounds in (False, True):
            target = described("cpu")
            target = replace(target, platform=replace(target.platform, rounds_kept=rounds))
            kinds = cg.plan(loss, w, x, target=target, costs="estimate").program.kinds
            made: list[bytes] = []
            texts = ""
            for functions in map(stage_functions, kinds):
                for keep in range(len(functions.kind.options)):
                    run, call = functions.forward(keep)
                    avals = [v.aval for v in run.reads]
                    values = [jnp.sin(jnp.arange(a.size)).reshape(a.shape).astype(a.dtype) for a in avals]
                    texts += str(jax.make_jaxpr(call)(values))
                    made += [np.asarray(y).tobytes() for y in jax.jit(call)(values)]
            assert ("reduce_precision" in texts) == rounds
            found.append(made)
    assert found[0] == found[1]
