"""Results and gradients of the last stage in one loop: the same values, each chunk run once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from ckptgrad.chunks.chunked import chunked_joint
from ckptgrad.chunks.markers import BACKWARD, FORWARD, ONE_PASS, Floors, with_costs
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from ckptgrad.target.roofline import Roofline

WORDS, WIDTH, TOKENS = 13, 5, 6
W, X = (np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(WORDS, WIDTH), (TOKENS, WIDTH)]))
Y, MASK = np.arange(TOKENS) % WORDS, np.array([1.0, 0.0, 1.0, 1.0, 0.5, 1.0])


def each(w, x, y):
    logits = x @ w.T
    return jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, y[:, None], -1)[:, 0]


def mean(w, x, y, mask):
    return jnp.mean(each(w, x, y) * mask)


def masked(w, x, y, mask):
    return jnp.sum(each(w, x, y) * mask) / jnp.sum(mask)


def also_returned(w, x, y, mask):
    """The loss is weighted by a total that is not differentiated, made of what is cut."""
    losses, count = each(w, x, y), jnp.sum(x[:, 0] > 0)
    return jnp.log(2.0 + count) * jnp.sum(losses), losses, count


def of_its_own_total(w, x, y, mask):
    return jnp.log(jnp.sum(each(w, x, y) ** 2 * mask))


def joints(function, entries):
    """The last stage whole and over chunks of tokens, and the values of its arguments."""
    values = [jnp.asarray(a) for a in (W, X, Y, MASK)]
    graph = cg.trace(function, *values)
    wrt, seeds = graph.inputs[:2], graph.outputs[:1]
    whole = joint(graph, wrt, seeds)
    chunked = chunked_joint(graph, wrt, seeds, chunkable(graph, {graph.inputs[1]: 0}), entries, whole, last=True)
    return whole, with_costs(chunked, Roofline(cg.target("cpu")), Floors()), values


def run(joint, values, cotangent):
    """Outputs and gradients, late outputs as the backward makes them."""
    part = partition(joint, ())
    outputs, residuals = part.run_forward(values)
    reads = [values[joint.inputs.index(v)] for v in part.reads]
    backward = part.backward_run
    env = part.backward_env(residuals, reads, [cotangent])
    env.update(zip(backward.makes, backward([env[v] for v in backward.reads]), strict=True))
    late = {*joint.late}
    outputs = [env[a] if a in late else x for a, x in zip(joint.outputs, outputs, strict=True)]
    return outputs, [env[g] for g in joint.gradients]


@pytest.mark.parametrize("entries", [1, 4])
@pytest.mark.parametrize("function", [mean, masked, also_returned])
def test_results_and_gradients_are_those_of_the_whole_stage(x64, function, entries):
    whole, chunked, values = joints(function, entries)
    names = [op.name for op in chunked.operations]
    assert ONE_PASS in names
    assert BACKWARD not in names
    assert (FORWARD in names) == (function is also_returned)
    expected, found = run(whole, values, jnp.float64(1.5)), run(chunked, values, jnp.float64(1.5))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-13, atol=1e-14)


def test_a_total_that_takes_heavy_work_is_not_made_twice():
    _, chunked, _ = joints(of_its_own_total, 2)
    names = [op.name for op in chunked.operations]
    assert ONE_PASS not in names
    assert BACKWARD in names


def test_what_is_read_of_totals_comes_before_and_the_results_are_late():
    _, chunked, _ = joints(also_returned, 2)
    total, losses, count = chunked.outputs
    assert {*chunked.late} == {total, losses}
    assert count not in chunked.late


@pytest.mark.slow
def test_it_is_differentiated_again_by_its_definition(x64):
    whole, chunked, values = joints(mean, 4)

    def second(joint):
        return cg.grad(lambda w: jnp.sum(jnp.sin(run(joint, [w, *values[1:]], jnp.float64(0.5))[1][0])))(values[0])

    np.testing.assert_allclose(second(chunked), second(whole), rtol=1e-11, atol=1e-13)
