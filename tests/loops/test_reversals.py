"""The laws of ways to reverse loops (`loops.reversals.reversal`): each way on every kind of loop that it says it takes.

A new way needs nothing here: it is run on the loops below for which its registration does not refuse.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ckptgrad.graph.atoms import device_bytes
from ckptgrad.loops.candidates import loop_candidates, offering
from ckptgrad.loops.reversals.reversal import Offer, registered
from ckptgrad.target.attached import attached
from ckptgrad.target.roofline import Roofline
from tests.support.compare import quick
from tests.support.loop_plans import loop_of

STEPS = 7
W, H = jnp.eye(3) * 0.6 + 0.1, jnp.linspace(0.1, 1.2, 6).reshape(2, 3)
XS = jnp.sin(jnp.arange(STEPS * 6.0)).reshape(STEPS, 2, 3)


def carried(w, h, xs):
    return lax.scan(lambda c, _: (jnp.tanh(c @ w) + c, None), h, None, length=STEPS)


def stacked(w, h, xs):
    return lax.scan(lambda c, x: (jnp.tanh(c @ w + x), (c * x).sum()), h, xs)


def backwards(w, h, xs):
    return lax.scan(lambda c, x: (jnp.tanh(c @ w + x), c.sum()), h, xs, reverse=True)


def mixed(w, h, xs):
    """An integer and a value that never changes are carried too, and only half of what is closed over is a product."""
    return lax.scan(lambda c, x: ((c[0] + 1, jnp.sin(c[1] @ w + x * w[0]) * c[0] * c[2], c[2]), None), (0, h, w[1]), xs)


def buffered(w, h, xs):
    def step(i, s):
        h, buffer = s
        h = jnp.tanh(h @ w + 0.3 * buffer[i - 1])
        return h, buffer.at[i].set(h)

    return lax.fori_loop(0, STEPS, step, (h, xs))


def counted(w, h, xs):
    return lax.while_loop(lambda s: s[1].sum() < 9, lambda s: (s[0] + 1, jnp.tanh(s[1] @ w) + 1.1 * s[1]), (0, h))


def counted_buffered(w, h, xs):
    def step(s):
        i, h, buffer = s
        h = jnp.tanh(h @ w + 0.3 * buffer[i - 1])
        return i + 1, h, buffer.at[i].set(h)

    return lax.while_loop(lambda s: s[0] < STEPS, step, (0, h, xs))


LOOPS = [carried, stacked, backwards, mixed, buffered, counted, counted_buffered]
QUICK = {mixed, counted_buffered}
EACH = [pytest.param(f, id=f.__name__, marks=[] if f in QUICK else [pytest.mark.slow]) for f in LOOPS]


def plans_of(loop, way):
    """A plan in the middle of those of a way, and one with weight sums if there are any."""
    with offering(Offer(ways=frozenset({way}))):
        plans = loop_candidates(loop, Roofline(attached().with_host(2**20)), None)
    groups = {getattr(c.reversal, "weight_sums", None) is not None: [] for c in plans}
    for c in plans:
        groups[getattr(c.reversal, "weight_sums", None) is not None].append(c)
    return [group[len(group) // 2] for group in groups.values()]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gradients_of_definition(loop, operands, cotangents):
    """By JAX in forward mode, which loops of unknown length have too."""
    where = [i for i, d in enumerate(loop.differentiated) if d]

    def run(differentiated):
        given = dict(zip(where, differentiated, strict=True))
        results = loop.definition(*(given.get(i, x) for i, x in enumerate(operands)))
        return sum((r * ct).sum() for r, ct in zip(results, cotangents, strict=True) if ct is not None)

    return dict(zip(where, quick(jax.jacfwd(run))([operands[i] for i in where]), strict=True))


def assert_stored_as_priced(plan, loop, stored):
    """What the device stores is what was priced: but for one state more, entry buffers, and numbers of checkpoints."""
    body = loop.body
    state = sum(body.carry_avals[i].size * body.carry_avals[i].dtype.itemsize for i in body.moving)
    buffers = sum(body.carry_avals[b.position].size * 8 for b in body.entry_buffers)
    numbers = 8 * getattr(plan.reversal, "slots", 0) + 8
    assert plan.stored <= sum(map(device_bytes, stored)) <= plan.stored + state + buffers + numbers


@pytest.mark.parametrize("fun", EACH)
@pytest.mark.parametrize("way", registered())
def test_results_gradients_and_bytes(way, fun):
    args = [a.astype(float) for a in (W, H, XS)]
    loop, operands = loop_of(fun, *args)
    plans = plans_of(loop, way)
    assert bool(plans) == (registered()[way].refusal(loop) is None)
    if not plans:
        return
    results = loop.definition(*operands)
    cotangents = [None if not jnp.issubdtype(r.dtype, jnp.inexact) else jnp.cos(r) for r in results]
    plain = gradients_of_definition(loop, operands, cotangents)
    for plan in plans:
        run = plan.reversal

        def forward_and_back(*operands, run=run):
            results, stored = run.forward(loop, operands)
            return results, stored, run.backward(loop, operands, stored, cotangents)

        ours, stored, gradients = quick(forward_and_back)(*operands)
        for result, wanted in zip(ours, results, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-13, atol=0)
        assert [(x.shape, x.dtype) for x in stored] == [(v.shape, v.dtype) for v in run.stored(loop)]
        assert_stored_as_priced(plan, loop, run.stored(loop))
        assert [i for i, g in enumerate(gradients) if g is not None] == [*plain]
        for i, wanted in plain.items():
            np.testing.assert_allclose(gradients[i], wanted, rtol=1e-12, atol=1e-13)
