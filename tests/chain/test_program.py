"""A graph as a chain of stages: what crosses each cut, what is held, and where gradients are added."""

from __future__ import annotations

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.chain.program import build_program
from ckptgrad.target.target import described

X, W = jnp.ones((4, 3)), jnp.eye(3)
CPU = described("cpu")


def program_of(fun, *args, cuts, wrt=None):
    graph = cg.trace(fun, *args)
    inputs = graph.inputs if wrt is None else [graph.inputs[k] for k in wrt]
    return build_program(graph, inputs, graph.outputs, CPU, cuts)


def chain(a, b, c, x):
    return ((x @ a) @ b) @ c


def test_what_only_the_next_stage_reads_is_its_boundary():
    program = program_of(chain, W, W, W, X, cuts=[1, 2])
    first, middle, last = program.stages
    assert [len(stage.boundary_in) for stage in program.stages] == [0, 1, 1]
    assert first.boundary_out == middle.boundary_in
    assert middle.boundary_out == last.boundary_in
    assert program.held == {}
    assert [len(stage.differentiated) for stage in program.stages] == [2, 2, 2]
    assert [stage.seeded for stage in program.stages] == [first.outputs, middle.outputs, last.outputs]


def test_what_lives_longer_is_held_and_counted_once():
    """The sine is read by both later stages."""

    def skipping(x):
        first = jnp.sin(x)
        return jnp.exp(first) * first

    program = program_of(skipping, X, cuts=[1, 2])
    (held,) = program.held
    assert held in program.stages[0].outputs
    assert program.held[held] == 2
    assert [len(stage.boundary_in) for stage in program.stages] == [0, 0, 1]


def test_equal_stages_share_a_kind_and_each_knows_its_line():
    program = program_of(chain, W, W, W, X, cuts=[1, 2])
    assert len(program.kinds) == 3
    longer = program_of(lambda a, x: (((x @ a) @ a) @ a) @ a, W, X, cuts=[1, 2, 3])
    assert longer.stages[1].kind is longer.stages[2].kind
    assert len(longer.kinds) == 3
    assert all(stage.source.file == __file__ for stage in longer.stages)


def test_gradients_of_shared_arguments_are_added_to_the_first_that_is_made():
    """Backwards run from the last stage: its gradient of the shared matrix comes first, the others are added to it."""
    program = program_of(lambda a, x: ((x @ a) @ a) @ a, W, X, cuts=[1, 2])
    shared = program.wrt[0]
    added = [[stage.differentiated[k] for k in summed] for stage, summed in zip(program.stages, program.summed, strict=True)]
    starting = [
        [stage.differentiated[k] for k in first] for stage, first in zip(program.stages, program.starting, strict=True)
    ]
    assert added == [[shared], [shared], []]
    assert starting == [[], [], [shared]]


def test_without_sharing_nothing_is_added():
    program = program_of(chain, W, W, W, X, cuts=[1, 2])
    assert program.summed == program.starting == [(), (), ()]


def test_bytes_of_outputs_and_gradients():
    """What is returned twice takes two buffers."""
    program = program_of(lambda a, x: ((y := x @ a), y, x), W, X, cuts=[], wrt=[0])
    assert program.output_bytes == 3 * X.nbytes
    assert program.gradient_bytes == W.nbytes
    assert [len(stage.differentiated) for stage in program.stages] == [1]


def test_a_stage_without_a_cotangent_is_not_differentiated():
    program = program_of(lambda x: (jnp.floor(jnp.sin(x)), jnp.cos(x)), X, cuts=[2])
    assert [bool(stage.seeded) for stage in program.stages] == [False, True]
    assert program.stages[0].differentiated == ()


def test_arguments_have_bytes_by_name_and_what_is_captured_is_told_apart():
    captured = jnp.ones((5, 3))

    def loss(params, x, *, scale):
        return jnp.sum(captured @ params["w"]) + jnp.sum(x) * scale + params["b"]

    program = cg.plan(loss, {"w": W, "b": 1.0}, X, scale=jnp.array(2.0)).program
    assert program.argument_bytes == {"params": W.nbytes + 4, "x": X.nbytes, "scale": 4, "captured arrays": captured.nbytes}
    assert cg.plan(lambda x: jnp.sum(x), X).program.argument_bytes == {"x": X.nbytes}
