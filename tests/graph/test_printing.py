"""A graph as text and as a table: types, primitives, what is read, and the user's lines."""

from __future__ import annotations

import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.graph.printing import MOST_ROWS, graph_html


def loss(w, x, b):
    h = x @ w
    y = jnp.tanh(h)
    return jnp.sum(y * b)


def test_printing_names_types_primitives_and_lines():
    graph = cg.trace(loss, jnp.ones((3, 2)), jnp.ones((4, 3)), jnp.ones((4, 2)))
    lines = str(graph).splitlines()
    assert lines[0] == "inputs     v0: float32[3,2], v1: float32[4,3], v2: float32[4,2]"
    assert lines[1].strip().startswith("v3: float32[4,2] = dot_general(v1, v0)")
    assert lines[2].strip().startswith("v4: float32[4,2] = tanh(v3)")
    assert all("test_printing.py" in line and "(loss)" in line for line in lines[1:5])
    assert lines[-1] == "outputs    v6"
    assert repr(graph) == "Graph(3 inputs, 4 operations, 1 outputs)"


def test_constants_that_a_function_closes_over_are_named():
    captured = jnp.arange(3.0)
    lines = str(cg.trace(lambda x: x * captured + 2.0, jnp.ones(3))).splitlines()
    assert lines[1] == "constants  v1: float32[3]"
    assert "= add(v2, 2.0)" in lines[3]


def test_a_table_is_escaped_and_ends():
    def long(x):
        for _ in range(MOST_ROWS + 5):
            x = -x
        return x

    table = graph_html(cg.trace(long, 1.0))
    assert table.count("<tr>") == MOST_ROWS + 2
    assert "and 5 more operations" in table
    assert "&lt;" in graph_html(cg.trace(lambda x: (lambda y: jnp.sin(y))(x), 1.0))


def test_a_graph_shows_its_operations_in_notebooks():
    html = cg.trace(loss, jnp.ones((3, 2)), jnp.ones((4, 3)), jnp.ones((4, 2)))._repr_html_()
    assert "dot_general" in html
    assert "test_printing.py" in html
