"""Gradients of constants that are summed over a group of steps at once."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.loops.body import Body
from ckptgrad.loops.replay import Replay
from ckptgrad.loops.weight_sums import WeightSums
from ckptgrad.stage.partition import partition
from tests.support.compare import assert_same, quick

W, BIAS, C = jnp.linspace(-0.4, 0.7, 9).reshape(3, 3), jnp.linspace(0.1, 0.3, 3), jnp.linspace(0.1, 0.6, 6).reshape(2, 3)


def sums_of(step, *args, constants):
    body = Body(cg.trace(step, *args), constants, len(args) - constants, [True] * len(args))
    replay = Replay(body, partition(body.joint, body.joint.frontier))
    return WeightSums(replay), replay


# A step, its constants, and its state.
STEPS = {
    "a product and a bias": (lambda w, b, c: jnp.tanh(c @ w + b), (W, BIAS), C),
    "transposed": (lambda w, b, c: jnp.tanh(c @ w.T + b), (W, BIAS), C),
    "in another order": (lambda w, b, c: jnp.tanh((w @ c.T).T * 0.5 + b), (W, BIAS), C),
    "reshaped": (lambda w, c: jnp.tanh(c.reshape(6) @ w.reshape(6, 6)).reshape(2, 3), (jnp.ones(36) / 9,), C),
    "converted": (lambda w, b, c: jnp.tanh(c @ w.astype(c.dtype) + b), (W.astype(jnp.bfloat16), BIAS), C),
}


MORE = ("in another order", "converted")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in MORE else []) for n in STEPS])
def test_a_group_adds_what_its_steps_would_have_added_one_by_one(name):
    step, consts, c = STEPS[name]
    waiting, replay = sums_of(step, *consts, c, constants=len(consts))
    assert [term.position for term in waiting.terms] == [*range(len(consts))]

    def both(consts, c):
        alone, stacks, entering, kept = [0.0] * len(consts), [], [], []
        for k in range(3):
            state = c * (1 + k)
            after, private = replay.keep(consts, [state], [])
            start = replay.backward_env(
                consts, [state] * len(replay.carry_reads), after[: len(replay.next_reads)], private, [], [jnp.cos(state)]
            )
            alone = [a + g for a, g in zip(alone, replay.back(start)[0], strict=True)]
            ready, values = waiting.back(start)
            assert ready[: len(consts)] == [None] * len(consts)
            stacks.append(values)
            entering.append(state)
            kept.append(private)
        stored = waiting.stored({0: jnp.stack(entering)}, [jnp.stack(p) for p in zip(*kept, strict=True)])
        summed = waiting.add([jnp.zeros_like(w) for w in consts], [jnp.stack(s) for s in zip(*stacks, strict=True)], stored)
        return summed, alone

    assert_same(*quick(both)(consts, c), scale=4)


def terms(step, *args, constants):
    return {term.position: term for term in sums_of(step, *args, constants=constants)[0].terms}


def test_what_waits_is_a_product_or_a_plain_sum():
    found = terms(lambda w, b, c: jnp.tanh(c @ w + b), W, BIAS, C, constants=2)
    assert found[0].product.name == "dot_general"
    assert found[1].product is None


@pytest.mark.parametrize(
    "step",
    [
        lambda w, c: jnp.tanh(c * w[0]),  # one scale for all rows: the share is no product, and not a sum of one value alone
        lambda w, c: jnp.tanh(c @ w) @ w,  # two products, added within the step
        lambda w, c: jnp.tanh(c @ jnp.sin(w)),  # a product, but not of the weight itself
    ],
)
def test_other_gradients_are_added_step_by_step(step):
    assert terms(step, W, C, constants=1) == {}


def test_rows_that_are_not_written_add_nothing():
    waiting, _ = sums_of(lambda w, b, c: jnp.tanh(c @ w + b), W, BIAS, C, constants=2)
    room = waiting.room(4)
    assert [r.shape for r in room] == [(4, *v.shape) for v in waiting.stacked]
    entering = {0: jnp.ones((4, *C.shape))}
    kept = [jnp.ones((4, *v.shape)) for v in waiting.replay.private]
    sums = waiting.add([W, BIAS], room, waiting.stored(entering, kept))
    for ours, wanted in zip(sums, (W, BIAS), strict=True):
        np.testing.assert_array_equal(ours, wanted)


def test_a_steps_backward_does_without_what_waits():
    waiting, replay = sums_of(lambda w, b, c: jnp.tanh(c @ w + b), W, BIAS, C, constants=2)
    names = [[op.name for op in operations] for operations in (waiting.operations, replay.part.backward_run.operations)]
    assert [found.count("dot_general") for found in names] == [1, 2]
    assert "reduce_sum" not in names[0]
