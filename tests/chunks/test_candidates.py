"""What is offered over chunks: fewer bytes inside, never less time than the stage run whole."""

from dataclasses import replace

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.chunks.candidates import chunked_choices
from ckptgrad.stage.joint import joint
from ckptgrad.stage.partition import partition
from ckptgrad.target.roofline import Roofline

X, W, ROOFLINE = jnp.ones((64, 8)), jnp.ones((8, 256)), Roofline(cg.target("cpu"))


def choices(function, *args, roofline=ROOFLINE):
    graph = cg.trace(function, *args)
    wrt, seeds = graph.inputs, graph.outputs
    return chunked_choices(graph, wrt, seeds, partition(joint(graph, wrt, seeds), ()), roofline)


def bytes_inside(part):
    return max(op.known_cost.bytes for op in part.joint.operations if op.known_cost is not None)


def layer(x, w):
    return x + jnp.tanh(x @ w) @ w.T


def test_more_chunks_hold_less_inside():
    offered = choices(layer, X, W)
    assert len(offered) > 2
    assert offered[0][0].startswith("2 chunks of")
    held = [bytes_inside(part) for _, part in offered]
    assert held == sorted(held, reverse=True)
    assert len({*held}) == len(held)


def test_no_chunks_are_taken_to_be_faster_than_the_whole():
    graph = cg.trace(layer, X, W)
    whole = partition(joint(graph, graph.inputs, graph.outputs), ())
    least = ROOFLINE.seconds(whole.backward_run.operations, whole.joint.gradients)
    for _, part in choices(layer, X, W):
        assert ROOFLINE.seconds(part.backward_run.operations, part.joint.gradients) >= least


def test_chunks_that_stay_near_may_be_faster_than_the_whole():
    """Where memory is slow: what is made in between is not moved then."""
    rates = replace(ROOFLINE.rates, write_rate=1e6, read_rate=1e6)

    def least(near):
        platform = replace(ROOFLINE.target.platform, near_memory=near)
        roofline = Roofline(replace(ROOFLINE.target, platform=platform, rates=rates))
        made = (op for _, part in choices(layer, X, W, roofline=roofline) for op in part.joint.operations)
        return min(op.known_cost.seconds for op in made if op.known_cost is not None)

    assert least(True) < least(False)


def test_what_mixes_examples_is_left_whole():
    def normalised(x, w):
        h = x @ w
        return (h - h.mean(0)) / jnp.sqrt(h.var(0) + 1e-5) @ w.T * x.sum(0)

    offered = choices(normalised, X, W)
    assert not any("of 32" in name and "2 chunks" in name for name, _ in offered)


def test_a_chunk_has_a_divisor_of_all_entries_where_there_is_one_near():
    offered = [name for name, _ in choices(lambda x: jnp.sum(jax.nn.softmax(jnp.tanh(x), -1) ** 2), jnp.ones((12, 4096)))]
    assert offered[:3] == ["2 chunks of 6", "4 chunks of 3", "12 chunks of 1"]
