"""How far the axes of arguments are followed."""

import jax
import jax.numpy as jnp

import ckptgrad as cg
from ckptgrad.axes.followed import followed

TOKENS, TABLE = jnp.zeros((4, 9), int), jnp.ones((16, 8))


def marks_of_result(fun, *args, merged=False):
    """For each axis of the one result the axes of arguments that reach it, as (argument, axis)."""
    graph = cg.trace(fun, *args)
    start = {(v, axis): (k, axis) for k, v in enumerate(graph.inputs) for axis in range(len(v.aval.shape))}
    known = followed(graph.operations, start, merged)
    (result,) = graph.outputs
    return [[*known.get((result, axis), ())] for axis in range(len(result.aval.shape))]


def test_through_lookups_products_and_transposes():
    def scores(tokens, table):
        x = jnp.tanh(table[tokens])
        return jnp.einsum("btd,bsd->bts", x, x).transpose(1, 0, 2)

    assert marks_of_result(scores, TOKENS, TABLE) == [[(0, 1)], [(0, 0)], [(0, 1)]]


def test_what_is_summed_over_is_gone():
    assert marks_of_result(lambda x: x.sum(0), TABLE) == [[(0, 1)]]
    assert marks_of_result(lambda x, y: x.T @ y, TABLE, TABLE) == [[(0, 1)], [(1, 1)]]


def test_where_entries_do_not_correspond_the_axis_in_the_same_place_is_of_the_same_kind():
    assert marks_of_result(lambda x: jnp.cumsum(x[:, 1:], 1), TOKENS) == [[(0, 0)], [(0, 1)]]


def test_several_axes_in_one_have_the_marks_of_all_if_asked_for():
    def flat(tokens, table):
        return table[tokens].reshape(-1, 8)

    assert marks_of_result(flat, TOKENS, TABLE)[0] == [(0, 0)]
    assert {*marks_of_result(flat, TOKENS, TABLE, merged=True)[0]} == {(0, 0), (0, 1)}


def test_nothing_is_found_in_scalars():
    assert marks_of_result(lambda x: jax.nn.relu(x).sum(), TABLE) == []
