"""Runs of stages that are one stage where they may run over chunks: what a chunk holds against what crosses the cuts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.chain.blocks import cuts_for_chunks
from ckptgrad.chain.runs import cuts_of_runs
from tests.support.compare import quick

TARGET = cg.target("cpu")
BATCH, WIDTH = 64, 8
KERNELS = [np.random.default_rng(k).normal(size=(3, WIDTH, WIDTH)) / 4 for k in range(5)]
IMAGES = np.random.default_rng(9).normal(size=(BATCH, 16, WIDTH))
LABELS = np.arange(BATCH) % WIDTH


def convolved(x, kernel):
    numbers = ("NWC", "WIO", "NWC")
    return x + jnp.tanh(jax.lax.conv_general_dilated(x, kernel, (1,), "SAME", dimension_numbers=numbers))


def images(kernels, x, labels):
    for kernel in kernels:
        x = convolved(x, kernel)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x.mean(1)), labels[:, None], 1))


def statistics_between(kernels, x, labels):
    """The second layer subtracts a mean over all examples: no chunk has its part of that."""
    for k, kernel in enumerate(kernels):
        x = convolved(x - x.mean((0, 1)) if k == 2 else x, kernel)
    return jnp.mean(x**2)


def cuts_left(function, batch=BATCH):
    """The cuts, and those between runs."""
    graph = cg.trace(function, KERNELS, IMAGES[:batch], LABELS[:batch])
    cuts = cuts_for_chunks(graph, TARGET)
    return cuts, cuts_of_runs(graph, TARGET, cuts, graph.inputs[: len(KERNELS)])


def test_layers_that_treat_many_examples_apart_are_one_run():
    cuts, left = cuts_left(images)
    assert len(cuts) >= 3
    assert left == []


def test_no_run_holds_what_mixes_examples():
    cuts, left = cuts_left(statistics_between)
    assert 0 < len(left) < len(cuts)


def test_of_few_examples_a_chunk_holds_as_much_of_a_run_as_of_its_boundaries():
    def loss(kernels, x, labels):
        for kernel in kernels:
            x = convolved(x, kernel)
        return jnp.mean(x**2)

    cuts, left = cuts_left(loss, batch=2)
    assert {*left} < {*cuts}
    assert len(left) >= len(cuts) / 2


@pytest.mark.slow
def test_the_gradient_is_that_of_the_whole(x64):
    """At a sixth of what the smallest plan of single layers holds."""
    args = KERNELS, IMAGES, LABELS
    loss = cg.value_and_grad(images, budget="min", chunks=True)
    plan = loss.plan(*args)
    assert len(plan.program.stages) == 1
    assert "64 chunks of 1, in one pass" in plan.choices[0]
    assert plan.peak_bytes < cg.value_and_grad(images, budget="min", chunks=False).plan(*args).peak_bytes / 6
    for a, b in zip(
        jax.tree.leaves(quick(loss)(*args)), jax.tree.leaves(quick(jax.value_and_grad(images))(*args)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
