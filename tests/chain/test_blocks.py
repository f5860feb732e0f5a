"""Where blocks repeat, and the cuts that are left when stages are whole blocks."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.blocks import block_cuts, coarser_cuts, cuts_for_chunks
from ckptgrad.chain.cut import find_cuts
from ckptgrad.example_models import transformer

# So many rows that weights, which are made inside, count little.
X = jnp.ones((512, 8))
W = jnp.ones((8, 8))


def layers(*widths):
    """Stages of these widths, one product each: equal numbers are equal stages."""

    def run(x):
        for width in widths:
            x = jnp.tanh(x @ jnp.ones((x.shape[1], width)))
        return x.sum()

    return run


def graph_and_cuts(*widths):
    """The graph, and a cut after every tanh but the last."""
    graph = cg.trace(layers(*widths), X)
    ends = [k + 1 for k, op in enumerate(graph.operations) if op.name == "tanh"]
    return graph, ends[:-1]


@pytest.mark.parametrize(
    ("widths", "blocks"),
    [
        pytest.param((8,) * 6, [], id="equal stages"),
        pytest.param((3, 5, 7, 9), [], id="no two alike"),
        pytest.param((8, 5, 8, 5), [], id="too few"),
        # The first stage reads another width than later ones, and the sum belongs to the last one.
        pytest.param((8, 5) * 4, [[1, 3, 5, 7], [2, 4, 6]], id="two stages"),
        pytest.param((8, 5, 3) * 3, [[1, 4, 7], [2, 5, 8], [3, 6]], id="three stages"),
        pytest.param((9, *(8, 5) * 4, 7), [[2, 4, 6, 8], [3, 5, 7, 9]], id="between others"),
        pytest.param((9, 7, 6, 4, 3, 2, 10, *(8, 5) * 3), [], id="less than half"),
        # Each level repeats blocks of its own.
        pytest.param(
            (16, 10) * 2 + (8, 5) * 4 + (4, 2) * 2, [[2, 4, 6, 8, 10, 12, 14], [1, 3, 5, 7, 9, 11, 13, 15]], id="levels"
        ),
        pytest.param(
            (64, 48, 24, 9, *(8, 5) * 4), [[1, 2, 3, 4, 5, 7, 9, 11], [1, 2, 3, 4, 5, 6, 8, 10]], id="large ones before"
        ),
    ],
)
def test_blocks_begin_at_every_place_of_their_period(widths, blocks):
    graph, cuts = graph_and_cuts(*widths)
    found = block_cuts(graph, cg.target("cpu"), cuts)
    after = {position: stage for stage, position in enumerate(cuts, 1)}
    assert [[after[p] for p in positions] for positions in found] == blocks
    assert all(positions == sorted(set(positions)) for positions in found)


@pytest.mark.parametrize(("words", "products"), [(4096, [4, 2, 6, 6, 6, 1]), (8, [6, 6, 6, 7])])
def test_what_reads_many_parameters_beside_blocks_is_apart_where_stages_may_run_over_chunks(words, products):
    """A loss over many words is cut by tokens, where attention before it is not."""
    loss, args = transformer(blocks=4, width=16, heads=2, context=16, batch=2, vocabulary=words)
    graph = cg.trace(loss, *args)
    edges = [0, *cuts_for_chunks(graph, cg.target("cpu")), len(graph.operations)]
    stages = [graph.operations[a:b] for a, b in itertools.pairwise(edges)]
    assert [sum(op.name == "dot_general" for op in stage) for stage in stages] == products


@pytest.mark.parametrize(
    ("widths", "left"),
    [
        # Equal stages but for one inside which far more crosses than between the others.
        pytest.param((8, 64, *(8,) * 6), [0, 2, 3, 4, 5, 6], id="one wide cut"),
        pytest.param((8,) * 6, None, id="all alike"),
        # The first levels would be one stage if they were compared with the others.
        pytest.param((64,) * 3 + (32,) * 4 + (16,) * 6 + (8,) * 3, None, id="widths that fall"),
        pytest.param((8, 8, 16, 16, 32, 32, 64, 64), None, id="widths that rise"),
        pytest.param((96, 96, 32, 32, 16, 16, 32, 32, 96, 96, 96), None, id="down and up"),
        pytest.param((64, 64, 32, 32, 16, 64, *(16,) * 5), [0, 1, 2, 3, 4, 6, 7, 8, 9], id="one wide cut in a narrow level"),
    ],
)
def test_coarser_stages_begin_at_blocks_or_where_few_bytes_cross(widths, left):
    graph, _ = graph_and_cuts(*widths)
    target = cg.target("cpu")
    ends = find_cuts(graph, target)
    found = coarser_cuts(graph, target)
    assert (found[0] if found else None) == (left and [ends[k] for k in left])


def test_coarser_stages_are_blocks_where_there_are_any_and_none_where_the_user_marked_stages():
    loss, args = transformer(blocks=4, width=16, heads=2, context=16, batch=2, vocabulary=8)
    graph, target = cg.trace(loss, *args), cg.target("cpu")
    assert coarser_cuts(graph, target) == block_cuts(graph, target, find_cuts(graph, target)) != []
    marked = cg.trace(lambda x: cg.stage(jnp.tanh)(cg.stage(jnp.sin)(x)).sum(), X)
    assert marked.stage_marks
    assert coarser_cuts(marked, target) == []
