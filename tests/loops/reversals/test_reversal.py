"""The registry of ways to reverse loops: a way is one class, offered, priced and run without any other edit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import ckptgrad as cg
from ckptgrad.chain.program import forget_kinds
from ckptgrad.loops.candidates import loop_candidates, offering
from ckptgrad.loops.reversals.reversal import (
    Candidate,
    Offer,
    Reversal,
    ReversalError,
    registered,
    reversal,
    unregister,
)
from ckptgrad.loops.scan import Scan
from ckptgrad.target.attached import attached
from ckptgrad.target.roofline import Roofline
from tests.support.loop_plans import loop_of

X = jnp.linspace(0.1, 1.0, 4)
XS = jnp.sin(jnp.arange(24.0)).reshape(6, 4)


@dataclass(frozen=True, eq=False)
class FromStart(Reversal[Scan]):
    """Nothing is stored: each step's backward runs all steps before it again."""

    @classmethod
    def candidates(cls, costs, offer):
        n = costs.length
        yield Candidate(
            costs,
            partial(cls, costs.replay),
            ("from_start",),
            stored=0,
            forward_bytes=costs.forward_inside,
            backward_bytes=costs.backward_inside + costs.private + costs.read,
            forward_seconds=n * costs.plain,
            backward_seconds=n * (n - 1) / 2 * costs.plain + n * (costs.keep + costs.back),
        )

    def label(self, loop):
        return "from the start"

    def stored(self, loop):
        return []

    def forward(self, loop, operands):
        return loop.definition_again(*operands), []

    def backward(self, loop, operands, stored, cotangents):
        replay, body = self.replay, self.replay.body
        consts, init, xs = loop.divide(operands)
        ct, ct_ys = loop.cotangents(cotangents)
        first = body.num_consts + body.num_carry
        d_xs = [jnp.zeros_like(operands[first + k]) for k in body.active_xs]

        def ahead(i, carry):
            return replay.advance(consts, carry, loop.inputs_at(xs, i))

        def back(k, state):
            ct, sums, d_xs = state
            i = loop.length - 1 - k
            carry, x = lax.fori_loop(0, i, ahead, init), loop.inputs_at(xs, i)
            after, private = replay.keep(consts, carry, x)
            start = replay.backward_env(
                consts,
                [carry[j] for j in replay.carry_reads],
                [after[j] for j in replay.next_reads],
                private,
                [x[j] for j in replay.x_reads],
                body.cotangents(ct, loop.inputs_at(ct_ys, i), sums),
            )
            d_consts, ct, d_x = replay.back(start)
            return ct, body.added(sums, d_consts), loop.put_at(d_xs, d_x, i)

        ct, sums, d_xs = lax.fori_loop(0, loop.length, back, (ct, body.sums(loop.accumulate), d_xs))
        return loop.gradients(sums, ct, d_xs)


@pytest.fixture
def from_start():
    forget_kinds()
    yield reversal("from_start", loops=(Scan,), policies=("from_start",))(FromStart)
    unregister("from_start")
    forget_kinds()


def loss(x, xs, scan=lax.scan):
    def step(c, a):
        c = jnp.sin(c * x + a)
        return c, c.sum()

    final, sums = scan(step, x, xs)
    return (final**2).sum() + sums.sum()


def assert_near(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_a_new_way_is_priced_and_offered_beside_the_others(from_start):
    loop, _ = loop_of(loss, X, XS)
    offered = loop_candidates(loop, Roofline(attached()), None)
    (ours,) = {c.name: c for c in offered if c.policies == ("from_start",)}.values()
    assert ours.name == "from the start"
    assert (ours.stored, ours.bytes) == (0, min(c.bytes for c in offered))
    assert ours.seconds > min(c.seconds for c in offered)


def test_the_planner_runs_a_new_way(from_start):
    with offering(Offer(ways=frozenset({"from_start"}))):
        certified = cg.grad(loss, (0, 1)).compile(X, XS)
    (stage,) = certified.plan.program.stages
    assert all("from the start" in option.name for option in stage.kind.options)
    assert_near(certified(X, XS), jax.grad(loss, (0, 1))(X, XS))


def test_its_policy_can_be_asked_for_at_a_loop(from_start):
    def ours(x, xs):
        return loss(x, xs, partial(cg.scan, policy="from_start"))

    assert_near(jax.grad(ours, (0, 1))(X, XS), jax.grad(loss, (0, 1))(X, XS))


def test_forgotten_it_is_unknown(from_start):
    unregister("from_start")
    assert "from_start" not in registered()
    with pytest.raises(cg.OptionError, match="unknown for a loop; there are optimal, store_all, two_levels, revolve"):
        loss(X, XS, partial(cg.scan, policy="from_start"))


def test_a_name_is_given_once(from_start):
    with pytest.raises(ReversalError, match="called 'from_start' already"):
        reversal("from_start", loops=(Scan,))(FromStart)


def test_a_loop_that_a_way_does_not_take_is_refused():
    counted = lambda x: lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 1.5, x).sum()
    buffered = lambda x: lax.fori_loop(0, 4, lambda i, b: b.at[i].set(b[i - 1] * 2), x).sum()
    (unknown, _), (written, _) = loop_of(counted, X), loop_of(buffered, X)
    store_all, checkpoints = registered()["store_all"], registered()["checkpoints"]
    assert store_all.refusal(unknown) == checkpoints.refusal(unknown) == "takes Scan, not While"
    assert store_all.refusal(written) == "does not take buffers that are written entry by entry"
    assert checkpoints.refusal(written) is None
    with pytest.raises(ReversalError, match="'store_all' to reverse loops does not take buffers"):
        store_all.way(None).check(written)
