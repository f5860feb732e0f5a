"""A step of a loop run forward, again and backward, whatever is kept of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.loops.body import Body
from ckptgrad.loops.replay import Replay
from ckptgrad.stage.partition import partition
from tests.support.compare import assert_same, quick

W, C, X = (
    jnp.linspace(-0.4, 0.7, 9).reshape(3, 3),
    jnp.linspace(0.1, 0.6, 6).reshape(2, 3),
    jnp.linspace(-1, 1, 6).reshape(2, 3),
)


def step(w, count, c, x):
    h = jnp.tanh(c @ w + x)
    return count + 1, h, (h * jnp.cos(c)).sum()


def replayed(keep):
    """The step, of which the values made by some primitives are kept."""
    body = Body(cg.trace(step, W, jnp.int32(0), C, X), 1, 2, [True, False, True, True])
    made = [v for op in body.joint.forward_operations if op.name in keep for v in op.outputs]
    return Replay(body, partition(body.joint, made))


KEPT = {
    "nothing": (),
    "the product": ("dot_general",),
    "what is carried on": ("tanh",),
    "all": ("tanh", "cos", "sin", "add"),
}


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT)
def test_gradients_of_a_step(keep):
    replay = replayed(keep)
    d_next, d_stacked = 0.5 * C, jnp.float32(2)

    count = jnp.int32(3)

    def ours(w, c, x):
        carry, private = replay.keep([w], [count, c], [x])
        start = replay.backward_env(
            [w],
            [[count, c][i] for i in replay.carry_reads],
            [carry[i] for i in replay.next_reads],
            private,
            [x for _ in replay.x_reads],
            replay.body.cotangents([d_next], [d_stacked], []),
        )
        return replay.back(start)

    def wanted(w, c, x):
        d_w, d_c, d_x = jax.vjp(lambda w, c, x: step(w, 3, c, x)[1:], w, c, x)[1]((d_next, d_stacked))
        return [d_w], [d_c], [d_x]

    assert_same(*quick(lambda *args: (ours(*args), wanted(*args)))(W, C, X), scale=4)


def test_each_way_to_run_a_step_forward_carries_the_same_on():
    replay = replayed(("dot_general",))
    args = [W], [jnp.int32(3), C], [X]
    (count, h), (total,) = replay.first(*args)
    kept_carry, kept_stacked, (product,) = replay.first_kept(*args)
    assert_same((kept_carry, kept_stacked), ([count, h], [total]), scale=4)
    np.testing.assert_allclose(product, C @ W, rtol=1e-6)
    assert_same(replay.advance(*args), [count, h], scale=4)
    assert_same(replay.keep(*args), ([count, h], [product]), scale=4)
    assert_same((count, h, total), step(W, jnp.int32(3), C, X), scale=4)


def test_what_is_kept_is_told_apart_from_what_is_carried_anyway():
    """The state that leaves a step is the one that enters the next."""
    nothing, product, carried = (replayed(KEPT[name]) for name in ("nothing", "the product", "what is carried on"))
    assert (nothing.private, nothing.next_reads) == ([], [])
    assert ([v.shape for v in product.private], product.next_reads) == ([(2, 3)], [])
    assert (carried.private, carried.next_reads) == ([], [1])
    assert nothing.carry_reads == carried.carry_reads == [1]
    assert (nothing.x_reads, product.x_reads, carried.x_reads) == ([0], [0], [])


def test_stacked_outputs_need_not_be_made_again():
    replay = replayed(())
    assert [v.shape for v in replay.stacked_only] == [()]
    names = [op.name for op in replay.part.forward_run(again=True, unwanted=replay.stacked_only).operations]
    assert "tanh" in names
    assert "cos" not in names
    jaxpr = jax.make_jaxpr(lambda: replay.advance([W], [jnp.int32(3), C], [X]))()
    assert "cos" not in {eqn.primitive.name for eqn in jaxpr.eqns}


def test_gradients_are_divided():
    """Constants may have none; of the others zeros stand where nothing flows."""
    constants, carried, stacked = replayed(()).divide([None, None, X])
    assert constants == [None]
    np.testing.assert_array_equal(carried[0], 0 * C)
    assert stacked[0] is X


def test_what_products_read_of_a_stack_may_be_sliced_before():
    """The weights of a step, seen transposed too, and not what is added; gradients are the same to the bit."""

    def layer(c, w, b):
        return jnp.tanh(c @ w.T + b)

    body = Body(cg.trace(layer, C, W, X), 0, 1, [True, True, True])
    plain, first = (Replay(body, partition(body.joint, ()), slices_first=chosen) for chosen in (False, True))
    assert (plain.sliced, [v.shape for v in first.sliced]) == (frozenset(), [W.shape])

    def gradients(replay):
        return replay.back(replay.backward_env([], [C], [], [], [W, X], replay.body.cotangents([C], [], [])))

    assert_same(gradients(plain), gradients(first), scale=0)
    barriers = [str(jax.make_jaxpr(lambda r=r: gradients(r))()).count("optimization_barrier") for r in (plain, first)]
    assert barriers == [0, 1]
