"""Random programs: wherever an axis is cut, gradients over chunks are those of the whole, in one pass and in two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from ckptgrad.axes.proposed import proposals
from ckptgrad.chunks.chunked import chunked_joint
from ckptgrad.chunks.markers import Floors, with_costs
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from ckptgrad.target.roofline import Roofline
from tests.axes.test_chunked import STEPS

W, X = (np.random.default_rng(k).normal(size=shape) for k, shape in enumerate([(3,), (4, 2, 3)]))
MIXED = {
    "weighted": lambda w, x: x * w[: x.shape[-1]].sum() + w[0],
    "by features": lambda w, x: x * jnp.resize(w, x.shape[-1:]),
    "spread": lambda w, x: x + jnp.resize(jnp.tanh(w), x.shape),
    "projected": lambda w, x: jnp.tensordot(x, jnp.resize(w, (x.shape[-1], 2)), 1),
}
NAMES = sorted({*STEPS, *MIXED})


def program(names):
    def fun(w, x):
        for name in names:
            x = STEPS[name](x) if name in STEPS else MIXED[name](w, x)
            if x.size > 500 or x.ndim == 0:
                break
        return jnp.sum(jnp.cos(jnp.arange(x.size).reshape(x.shape)) * x**2) / x.size + 0.1 * jnp.sum(w**2)

    return fun


def values_and_gradients(joint, values):
    """As a plan runs them: late outputs with the gradients."""
    part = partition(joint, ())
    outputs, residuals = part.run_forward(values)
    backward = part.backward_run
    reads = [values[joint.inputs.index(v)] for v in part.reads]
    env = part.backward_env(residuals, reads, [jnp.float64(1.5)])
    env.update(zip(backward.makes, backward([env[v] for v in backward.reads]), strict=True))
    late = {*joint.late}
    return [env[a] if a in late else x for a, x in zip(joint.outputs, outputs, strict=True)], [
        None if g is None else env[g] for g in joint.gradients
    ]


def assert_chunks_agree(names):
    """How many ways to cut were compared."""
    values, compared = [jnp.asarray(W), jnp.asarray(X)], 0
    graph = cg.trace(program(names), *values)
    whole = joint(graph, graph.inputs, graph.outputs)
    expected = jax.tree.leaves(values_and_gradients(whole, values))
    for start in proposals(graph):
        found = chunkable(graph, start)
        for last in (False, True):
            made = chunked_joint(graph, graph.inputs, graph.outputs, found, (found.size + 1) // 2, whole, last=last)
            if made is None:
                continue
            made = with_costs(made, Roofline(cg.target("cpu")), Floors())
            found_values = jax.tree.leaves(jax.jit(lambda xs, made=made: values_and_gradients(made, xs))(values))
            for a, b in zip(expected, found_values, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-12)
            compared += 1
    return compared


@pytest.mark.slow
@pytest.mark.parametrize("names", [("projected", "softmax", "weighted"), ("spread", "split", "normal")])
def test_programs_with_parameters(x64, names):
    assert assert_chunks_agree(names)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5))
def test_random_programs(names):
    with jax.enable_x64():
        assert_chunks_agree(names)
