"""Where graphs are cut: by themselves where few bytes cross, or exactly as the user says."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.cut import find_cuts
from ckptgrad.chain.program import build_program
from ckptgrad.chain.waiting import waiting_bytes
from ckptgrad.target.target import described
from tests.support.compare import assert_same

X = jnp.linspace(-1, 1, 16 * 8).reshape(16, 8)
W = jnp.linspace(-0.5, 0.5, 64).reshape(8, 8)
CPU = described("cpu")
LAYER = ["dot_general", "tanh", "add"]


def layer(w, x):
    return x + jnp.tanh(x @ w)


def branchy(w, x):
    """A block with a wide branch: only its stream is cheap to cut."""
    wide = jnp.tile(w, (1, 4))
    return x + jnp.tanh(jnp.tanh(x @ wide) @ wide.T)


def net(block, depth, tied=False, around=lambda f: f):
    """(ws, x) -> the sum of a chain of `depth` blocks."""
    run = around(block)

    def loss(ws, x):
        for k in range(depth):
            x = run(ws if tied else ws[k], x)
        return x.sum()

    return loss


def unet(ws, x):
    """Encoders halve the rows, decoders double them and read the encoders' outputs, last first."""
    skips, half = [], len(ws) // 2
    for w in ws[:half]:
        x = jnp.tanh(x @ w)[::2]
        skips.append(x)
    for w in ws[half:]:
        x = jnp.tanh(jnp.repeat(x + skips.pop(), 2, 0) @ w)
    return x.sum()


def program_of(fun, *args):
    return cg.plan(fun, *args).program


def names(program):
    return [[op.name for op in stage.kind.graph.operations] for stage in program.stages]


FOUND = {
    "plain": (net(layer, 12), [W] * 12),
    "each layer under jit": (net(layer, 12, around=jax.jit), [W] * 12),
    "all under jit": (jax.jit(net(layer, 12)), [W] * 12),
    "each layer under checkpoint": (net(layer, 12, around=jax.checkpoint), [W] * 12),
    "one weight for all": (net(layer, 12, tied=True), W),
}


@pytest.mark.parametrize(("loss", "ws"), FOUND.values(), ids=FOUND)
def test_a_residual_chain_is_cut_at_its_layers(loss, ws):
    program = program_of(loss, ws, X)
    assert names(program) == [LAYER] * 11 + [[*LAYER, "reduce_sum"]]
    assert program.held == {}
    assert len(program.kinds) == 3
    assert len({id(stage.kind) for stage in program.stages[1:-1]}) == 1
    assert [stage.boundary_out for stage in program.stages[:-1]] == [stage.boundary_in for stage in program.stages[1:]]


def test_a_block_is_cut_at_its_stream_and_not_inside_its_branch():
    program = program_of(net(branchy, 8), [W] * 8, X)
    # The first block's stream is an argument, which costs nothing, so its branch may be cut.
    inner = program.stages[2:-1]
    assert len(inner) >= 6
    assert len({id(stage.kind) for stage in inner}) == 1
    assert [sum(v.nbytes for v in stage.boundary_out) for stage in inner] == [X.nbytes] * len(inner)


def test_every_operation_is_in_one_stage():
    program = program_of(unet, [W] * 16, jnp.ones((512, 8)))
    assert [name for stage in names(program) for name in stage] == [op.name for op in program.graph.operations]


def test_skip_connections_are_held_and_counted_once():
    ws, x = [W] * 16, jnp.ones((512, 8))
    program = program_of(unet, ws, x)
    assert len(program.stages) > 8
    rows = sorted((v.shape[0] for v in program.held), reverse=True)
    assert rows[:3] == [256, 128, 64]
    assert all(readers == 2 for readers in program.held.values())
    crossing = {v for stage in program.stages for v in stage.boundary_out}
    assert not crossing & set(program.held)
    held = sum(v.nbytes for v in program.held)
    # From the backward of a skip connection's last reader to that of its first one its gradient is held as well.
    costs = cg.plan(unet, ws, x).costs
    assert costs.held_bytes == program.output_bytes + program.gradient_bytes
    waiting = waiting_bytes(program)
    assert (waiting[0], waiting[-1], max(waiting)) == (0, held, 2 * held)
    for v in program.held:
        last = max(i for i, stage in enumerate(program.stages) if v in stage.inputs)
        assert waiting[last] - waiting[last + 1] == v.nbytes


def test_a_value_that_all_layers_read_is_held_once():
    def masked(ws, x):
        gate = jnp.tanh(x @ ws[0])
        for w in ws[1:]:
            x = jnp.tanh(x @ w) * gate
        return x.sum()

    program = program_of(masked, [W] * 24, X)
    assert list(program.held.values()) == [23]
    assert len(program.stages) == 24


def test_a_constant_table_costs_nothing():
    table = jnp.ones((16, 8))
    program = program_of(lambda ws, x: net(lambda w, x: jnp.tanh(x @ w) * table, 12)(ws, x), [W] * 12, X)
    assert program.held == {}
    assert len(program.stages) == 12


SMALL = {
    "constant": (lambda x: jnp.float32(1.0), ()),
    "identity": (lambda x: x[0, 0], ()),
    "one operation": (jnp.sum, ()),
    "one layer": (net(layer, 1), ([W],)),
    "densely connected": (lambda ws, x: dense(ws, x), ([W] * 6,)),
    "attention to all before": (
        lambda ws, x: dense(ws, x, combine=jnp.hstack),
        ([jnp.tile(W, (k + 1, 1)) for k in range(5)],),
    ),
}


def dense(ws, x, combine=sum):
    """Each layer reads all layers before."""
    found = [x]
    for w in ws:
        found.append(jnp.tanh(combine(found) @ w))
    return sum(found).sum()


@pytest.mark.parametrize("budget", [None, "min"])
@pytest.mark.parametrize(("loss", "ws"), SMALL.values(), ids=SMALL)
def test_what_cannot_be_cut_well_still_works(loss, ws, budget):
    argnums = len(ws)
    found = cg.value_and_grad(loss, argnums, budget=budget)(*ws, X)
    assert_same(found, jax.value_and_grad(loss, argnums)(*ws, X), scale=4)


def test_a_layer_alone_is_one_stage():
    assert names(program_of(net(layer, 1), [W], X)) == [[*LAYER, "reduce_sum"]]
    assert find_cuts(cg.trace(lambda: 1.0), CPU) == []


def test_given_cuts_are_taken():
    graph = cg.trace(net(layer, 4), [W] * 4, X)
    program = build_program(graph, graph.inputs, graph.outputs, CPU, cuts=[6])
    assert [len(stage) for stage in names(program)] == [6, 7]


def test_elementwise_chains_are_cut_too():
    def waves(x):
        for _ in range(20):
            x = jnp.sin(x) + x
        return x.sum()

    program = program_of(waves, X)
    assert len(program.stages) >= 10
    pairs = itertools.pairwise(program.stages)
    assert all(left.boundary_out == right.boundary_in and len(left.boundary_out) == 1 for left, right in pairs)


@pytest.mark.parametrize(("products", "cuts"), [(0, []), (1, []), (2, [1]), (3, [1, 2])])
def test_the_shortest_chains(products, cuts):
    w = jnp.eye(8)

    def chain(x):
        for _ in range(products):
            x = x @ w
        return x

    assert find_cuts(cg.trace(chain, jnp.ones((16, 8))), CPU) == cuts
