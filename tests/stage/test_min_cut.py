"""The cut is the cheapest choice of what to keep, and the front of cuts is convex."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import pytest

from ckptgrad.stage.min_cut import KeepNetwork, front
from ckptgrad.stage.save_options import LEVELS
from ckptgrad.target.stored import materialised
from tests.cases.stages import ROOFLINE, STAGES, N, X, gelu, kind_of, norm, residual


def choices(stage):
    j = kind_of(stage).joint
    network = KeepNetwork(j, [v for v in j.inputs if v.shape == X.shape], ROOFLINE)
    return network, [v for v in network.values if v.nbytes >= N // 8 or v in network.frontier]


@pytest.mark.parametrize("stage", [residual, gelu, norm], ids=lambda s: s.__name__)
@pytest.mark.parametrize("price", [0.0, 1e-10, 1e-9, 1e-8, 1e-6])
def test_the_cut_is_the_cheapest_of_all_choices(stage, price):
    """Against every set of values that might be kept."""
    network, candidates = choices(stage)
    places = {v: i for i, v in enumerate(network.values)}
    made = {v for op in network.operations for v in op.outputs}
    held_anyway = materialised(network.operations, network.operations[-1].outputs, network.roofline.target)

    def writing(v):
        return v.nbytes / ROOFLINE.rates.read_rate if v in made and v not in held_anyway else 0.0

    def cost(kept):
        needed = set(network.frontier)
        seconds = 0.0
        for op in reversed(network.operations):
            if any(v in needed and v not in kept for v in op.outputs):
                seconds += ROOFLINE.again(op)
                needed.update(a for a in op.inputs if a in places)
        if any(v in needed and v not in kept for v in network.values if v not in made):
            return float("inf")
        keeping = network.preferred * (ROOFLINE.keeping + price)
        return seconds + sum(keeping[places[v]] + writing(v) for v in kept if v in needed)

    found = network.cheapest(price)
    best = min(cost(set(c)) for n in range(5) for c in itertools.combinations(candidates, n))
    assert cost(set(found.keep)) <= best * (1 + 1e-6)


@pytest.mark.parametrize("stage", [residual, gelu, norm], ids=lambda s: s.__name__)
@pytest.mark.parametrize("level", [name for name, _ in LEVELS])
def test_a_level_keeps_the_fewest_bytes(stage, level):
    """Of every set of values from which the backward can go on without the level's operations."""
    network, candidates = choices(stage)
    fixed = dict(LEVELS)[level]
    places = {v: i for i, v in enumerate(network.values)}
    made = {v for op in network.operations for v in op.outputs}

    def suffices(kept):
        needed = set(network.frontier)
        for op in reversed(network.operations):
            if any(v in needed and v not in kept for v in op.outputs):
                if fixed(op):
                    return False
                needed.update(a for a in op.inputs if a in places)
        return not any(v in needed and v not in kept for v in network.values if v not in made)

    found = network.keeping_results_of(fixed)
    assert suffices({*found.keep})
    sets = (c for n in range(5) for c in itertools.combinations(candidates, n) if suffices({*c}))
    least = min(sum(network.preferred[places[v]] for v in c) for c in sets)
    assert sum(network.preferred[places[v]] for v in found.keep) <= least * (1 + 1e-6)


@pytest.mark.parametrize("choice", ["cheapest", "heavy", "products"])
def test_a_product_is_kept_rather_than_the_sum_that_follows_it(choice):
    """XLA holds the product in memory of its own; the sum would be written for the backward alone."""
    wide = jax.ShapeDtypeStruct((512, 512), jnp.float32)
    joint = kind_of(lambda w, x: jax.nn.gelu(x @ w + w[0]), wide, wide).joint
    network = KeepNetwork(joint, joint.inputs[:0], ROOFLINE)
    found = network.cheapest(0.0) if choice == "cheapest" else network.keeping_results_of(dict(LEVELS)[choice])
    assert [op.name for op in network.operations if {*op.outputs} & {*found.keep}] == ["dot_general"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_front_is_convex(stage):
    corners = front(choices(stage)[0])
    assert [c.bytes for c in corners] == sorted({c.bytes for c in corners}, reverse=True)
    prices = [(b.seconds - a.seconds) / (a.bytes - b.bytes) for a, b in itertools.pairwise(corners)]
    assert prices == sorted(prices)
