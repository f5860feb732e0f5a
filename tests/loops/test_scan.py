"""Scans taken apart."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ckptgrad.loops.scan import Scan
from tests.support.loop_plans import loop_of

X, XS = jnp.array([1.0, -1.0]), jnp.arange(8.0).reshape(4, 2)


def scanned(x, xs, **options):
    return lax.scan(lambda c, a: (c * 0.5 + a, c.sum()), x, xs, **options)


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"reverse": True, "unroll": 2}])
def test_the_loop_itself(options):
    loop, operands = loop_of(lambda x, xs: scanned(x, xs, **options), X, XS)
    assert isinstance(loop, Scan)
    assert (loop.length, loop.reverse, loop.unroll) == (4, "reverse" in options, options.get("unroll", 1))
    for ours, wanted in zip(loop.definition(*operands), scanned(X, XS, **options), strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("reverse", [False, True])
def test_steps_are_counted_as_they_run(reverse):
    """Step 1 of a reversed scan is at the last entry but one."""
    loop, _ = loop_of(lambda x, xs: scanned(x, xs, reverse=reverse), X, XS)
    place = 2 if reverse else 1
    np.testing.assert_array_equal(loop.inputs_at([XS], 1)[0], XS[place])
    (stack,) = loop.put_at([XS], [jnp.zeros(2)], 1)
    np.testing.assert_array_equal(stack, XS.at[place].set(0))
    assert loop.inputs_at([], 1) == loop.put_at([], [], 1) == []


@pytest.mark.parametrize(("length", "buffers"), [(4, 1), (1, 0)])
def test_of_one_step_no_buffer_is_kept_out_of_checkpoints(length, buffers):
    """There is nothing to choose, so nothing that only some ways take."""

    def run(x):
        start = (0, jnp.ones((4, 2)) * x)
        return lax.scan(lambda s, _: ((s[0] + 1, s[1].at[s[0]].set(s[1][s[0] - 1] * 2)), None), start, None, length)

    assert len(loop_of(run, X)[0].body.entry_buffers) == buffers
