"""Graphs cut where few numbers cross, and Jacobians computed segment by segment."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import ckptgrad as cg
from ckptgrad.jacobian.bracketing import Bracket
from ckptgrad.jacobian.segments import MOST_STAGES, Values, cut_where_small, evaluate_bracket, size_of
from tests.support.compare import quick

V, X, C = jnp.linspace(-1, 1, 12).reshape(6, 2), jnp.linspace(0.1, 0.6, 6), jnp.arange(6.0)


def hourglass(x, c):
    """Six numbers, two, six, two: `c` is read on the way and has no derivative."""
    return jnp.sin(V.T @ jnp.tanh(V @ jnp.sin(V.T @ x) + c))


def segments_of(fun=hourglass, *args, wrt=0):
    graph = cg.trace(fun, *(args or (X, C)))
    return graph, cut_where_small(graph, [graph.inputs[wrt]])


def test_segments_follow_one_another():
    graph, segments = segments_of()
    assert segments[0].inside == (graph.inputs[0],)
    assert segments[-1].outside == tuple(graph.outputs)
    for one, following in itertools.pairwise(segments):
        assert one.outside == following.inside
    assert 2 in [size_of(segment.outside) for segment in segments[:-1]]
    assert [op for segment in segments for op in segment.graph.operations] == [*graph.operations]


def test_what_does_not_depend_on_the_input_is_read_and_not_moved():
    graph, segments = segments_of()
    assert graph.inputs[1] in {v for segment in segments for v in segment.unmoved}
    assert all(graph.inputs[1] not in segment.inside for segment in segments)


def test_multiplications_of_one_tangent():
    """One per entry and active input of an elementwise operation; a product of 6 x 2 numbers takes 12."""
    assert sum(s.multiplications for s in segments_of(lambda x, c: jnp.sin(x) * c)[1]) == 12
    assert sum(s.multiplications for s in segments_of(lambda x, c: x * x)[1]) == 12
    assert sum(s.multiplications for s in segments_of(lambda x, c: V.T @ x)[1]) == 12
    assert sum(s.multiplications for s in segments_of(lambda x, c: x * jnp.exp(c))[1]) == 6


def test_long_chains_are_cut_in_few_places():
    def long(x, c):
        for _ in range(100):
            x = jnp.sin(x) * c
        return x

    assert 10 < len(segments_of(long)[1]) <= MOST_STAGES


def test_functions_without_operations():
    """An input that is returned is a segment of its own; what does not depend on it is none."""
    _, (segment,) = segments_of(lambda x, c: x)
    assert (segment.inside, segment.graph.operations) == (segment.outside, ())
    assert segments_of(lambda x, c: jnp.cos(c))[1] == []


def test_every_bracket_gives_the_jacobian():
    graph, segments = segments_of()
    last = len(segments) - 1
    assert last >= 2

    def whole(first, last, way):
        return Bracket(first, last, way, 0)

    brackets = [
        whole(0, last, "forward"),
        whole(0, last, "reverse"),
        Bracket(0, last, "product", 0, whole(1, last, "reverse"), whole(0, 0, "forward")),
        Bracket(0, last, "forward", 0, None, whole(0, 1, "reverse")),
        Bracket(0, last, "reverse", 0, whole(1, last, "forward"), None),
    ]

    @quick
    def run(x, c):
        values = Values(graph, (x, c), segments)
        return values.outputs[0], [evaluate_bracket(bracket, segments, values) for bracket in brackets]

    output, matrices = run(X, C)
    np.testing.assert_allclose(output, hourglass(X, C), rtol=1e-6)
    for matrix in matrices:
        np.testing.assert_allclose(matrix, jax.jacfwd(hourglass)(X, C), rtol=2e-5, atol=1e-6)
