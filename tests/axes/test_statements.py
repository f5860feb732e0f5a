import jax.numpy as jnp
from jax import lax

from ckptgrad.axes.cut import Partial, Split
from ckptgrad.axes.families import elementwise
from ckptgrad.axes.statements import axes_of, state_axes
from ckptgrad.graph.trace import trace


def operation(fun, *args):
    (op,) = trace(fun, *args).operations
    return op


def test_batch_free_and_contracted_axes_of_a_product():
    op = operation(
        lambda x, y: lax.dot_general(x, y, (((2,), (1,)), ((0,), (0,)))), jnp.ones((2, 4, 6)), jnp.ones((2, 6, 8))
    )
    axes = axes_of(op)
    assert axes is not None

    def passed(*states):
        found = axes.forward(op, states, 2)
        return found and (found.operands, found.results)

    assert passed(0, None) == ((0, 0), (Split(0),))
    assert passed(1, None) == ((1, None), (Split(1),))
    assert passed(None, 2) == ((None, 2), (Split(2),))
    assert passed(2, None) == ((2, 1), (Partial(),))
    assert passed(1, 2) is None
    towards = axes.towards(op, 0, 2, 2)
    assert towards is not None
    assert towards.operands == (None, 2)


def test_a_primitive_without_statement_is_not_cut():
    assert axes_of(operation(lambda x: lax.linalg.eigh(x, symmetrize_input=False), jnp.ones((2, 3, 3)))) is None


def test_the_last_statement_holds():
    state_axes("a_primitive_of_this_test", elementwise)
    op = operation(jnp.sin, 1.0)
    assert axes_of(op) is elementwise
