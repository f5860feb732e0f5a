"""Whiles taken apart."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from ckptgrad.loops.while_loop import While
from tests.support.loop_plans import loop_of

X = jnp.array([1.0, 2.0])


def doubled(limit, factor, x):
    return lax.while_loop(lambda c: c[1].sum() < limit, lambda c: (c[0] + 1, c[1] * factor), (0, x))


def test_the_loop_itself_and_when_it_ends():
    loop, operands = loop_of(doubled, 20.0, 2.0, X)
    assert isinstance(loop, While)
    count, x = loop.definition(*operands)
    assert count == 3
    np.testing.assert_array_equal(x, 8 * X)
    assert loop.goes_on(operands, [jnp.int32(2), 4 * X])
    assert not loop.goes_on(operands, [count, x])


def test_nothing_is_stacked():
    loop, _ = loop_of(doubled, 20.0, 2.0, X)
    assert (loop.length, loop.offset) == (None, 1)
    assert loop.inputs_at([], 3) == loop.put_at([], [], 3) == []
    assert [a.shape for a in loop.out_avals] == [(), (2,)]


def test_the_predicate_bounds_a_buffers_counter():
    """Written at a counter that the predicate bounds, it is an entry buffer; at one that it does not, it is not."""

    def run(x, bounded):
        step = lambda s: (s[0] + 1, s[1] + 1, s[2].at[s[0]].set(s[2][s[0] - 1] * 2))
        zero = np.int32(0)
        return lax.while_loop(lambda s: s[0 if bounded else 1] < 4, step, (zero, zero, jnp.ones((4, 2)) * x))

    assert [len(loop_of(lambda x, b=b: run(x, b), X)[0].body.entry_buffers) for b in (True, False)] == [1, 0]
