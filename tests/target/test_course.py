"""How bytes go over time inside a run of operations."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.graph.graph import KnownCost, Operation
from ckptgrad.target.course import course_inside, lifted
from ckptgrad.target.footprint import live_inside
from ckptgrad.target.roofline import Roofline
from ckptgrad.target.target import described

ROOFLINE = Roofline(described("cpu"))
X = jnp.ones((64, 16))


def test_an_operation_is_a_part_of_its_seconds_and_bytes():
    graph = cg.trace(lambda x: jnp.sin(x @ x.T) @ x, X)
    course = course_inside(graph.operations, graph.inputs, graph.outputs, ROOFLINE)
    assert [seconds for seconds, _ in course] == [ROOFLINE.again(op) for op in graph.operations]
    live = live_inside(graph.operations, graph.inputs, graph.outputs, ROOFLINE.target)
    assert [held for _, held in course] == [*live]


def test_a_planned_loop_is_as_many_parts_as_it_tells():
    """Its own bytes are counted in what is live; inside they go up and down."""
    graph = cg.trace(lambda x: jnp.sin(jnp.cos(x)), X)
    first, second = graph.operations
    cost = KnownCost(5.0, 1000, lambda: [(2.0, 400), (3.0, 1000)])
    loop = Operation(second.primitive, second.inputs, second.outputs, second.params, known_cost=cost)
    course = course_inside([first, loop], graph.inputs, graph.outputs, ROOFLINE)
    assert [seconds for seconds, _ in course[1:]] == [2.0, 3.0]
    assert course[2][1] - course[1][1] == 600


@pytest.mark.parametrize(
    ("seconds", "peak", "wanted"),
    [(4.0, 30, [(1.0, 10), (3.0, 30)]), (8.0, 35, [(2.0, 15), (6.0, 35)]), (4.0, 15, [(1.0, 0), (3.0, 15)])],
)
def test_a_course_is_stretched_and_lifted(seconds, peak, wanted):
    """What is missing is held all the time, and nothing is less than nothing."""
    assert lifted([(1.0, 10), (3.0, 30)], seconds, peak) == wanted


def test_a_course_of_no_time_stays_one():
    assert lifted([(0.0, 10), (0.0, 30)], 4.0, 30) == [(0.0, 10), (0.0, 30)]
