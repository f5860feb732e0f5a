"""The way in which loops are reversed where no plan says another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from ckptgrad.loops.plain import GROUP, SLOTS, plain_reversal, reverse_plainly
from ckptgrad.loops.reversals.online import Online
from ckptgrad.loops.reversals.store_all import StoreAll
from tests.support.compare import assert_same, quick
from tests.support.loop_plans import loop_of

W, X = jnp.array([0.9, 0.5]), jnp.array([1.0, 2.0])


def scanned(w, x):
    return lax.scan(lambda c, _: (jnp.sin(c * jnp.exp(w)), None), x, None, length=4)[0]


def whiled(w, x):
    return lax.while_loop(lambda c: c.sum() < 90, lambda c: c * jnp.exp(w), x)


def test_every_step_of_a_scan_is_stored_but_for_what_constants_alone_make():
    """The exponential of the weights is the same in every step."""
    loop, _ = loop_of(scanned, W, X)
    reversal = plain_reversal(loop)
    assert isinstance(reversal, StoreAll)
    kept = {v for op in loop.unplanned.joint.operations if op.name == "exp" for v in op.outputs}
    assert kept == loop.unplanned.invariant & kept
    assert not kept & {*reversal.replay.private}


def test_a_while_has_a_fixed_number_of_checkpoints_and_keeps_states_alone():
    reversal = plain_reversal(loop_of(whiled, W, X)[0])
    assert isinstance(reversal, Online)
    assert (reversal.slots, reversal.group) == (SLOTS, GROUP)
    assert reversal.replay.private == []


@pytest.mark.parametrize("fun", [scanned, pytest.param(whiled, marks=pytest.mark.slow)])
def test_results_and_gradients(fun):
    loop, operands = loop_of(fun, W, X)
    plain = lambda w, x: scanned(w, x) if fun is scanned else lax.fori_loop(0, 5, lambda i, c: c * jnp.exp(w), x)

    def both(operands):
        results, pull = reverse_plainly(loop, operands)
        gradients = [g for g in pull(X) if g is not None]
        wanted, jax_pull = jax.vjp(plain, W, X)
        return (results[0], *gradients), (wanted, *jax_pull(X))

    ours, theirs = quick(both)(operands)
    assert_same(ours, theirs, scale=8)
