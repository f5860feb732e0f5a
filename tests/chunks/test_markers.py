"""Loops in joint graphs: what they cost is never less than the stage run whole."""

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.axes.chunked import chunkable
from ckptgrad.chunks.chunked import chunked_joint
from ckptgrad.chunks.markers import BACKWARD, FORWARD, ONE_PASS, Floors, loop_of, with_costs
from ckptgrad.stage.joint import joint
from ckptgrad.target.roofline import Roofline


def operations(last, floors):
    graph = cg.trace(lambda w, x: jnp.mean(jnp.tanh(x @ w) ** 2), jnp.ones((3, 4)), jnp.ones((8, 3)))
    whole = joint(graph, graph.inputs, graph.outputs)
    chunked = chunked_joint(graph, graph.inputs, graph.outputs, chunkable(graph, {graph.inputs[1]: 0}), 2, whole, last=last)
    return {op.name: op for op in with_costs(chunked, Roofline(cg.target("cpu")), floors).operations if op.known_cost}


def test_loops_are_not_taken_to_be_faster_than_the_stage_run_whole():
    made = operations(last=False, floors=Floors(forward=2.0, backward=3.0, one_pass=4.0))
    assert {name: op.known_cost.seconds for name, op in made.items()} == {FORWARD: 2.0, BACKWARD: 3.0}
    assert {name: op.known_cost.seconds for name, op in operations(True, Floors(2.0, 3.0, 4.0)).items()} == {ONE_PASS: 4.0}


def test_the_loop_of_a_forward_is_told():
    made = operations(last=False, floors=Floors())
    assert loop_of(made[FORWARD]).count == 4
    assert loop_of(made[BACKWARD]) is None
