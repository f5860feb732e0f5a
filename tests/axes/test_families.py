import jax.numpy as jnp
from jax import lax

from ckptgrad.axes.cut import Split
from ckptgrad.axes.families import blocked, elementwise, folded
from ckptgrad.graph.trace import trace


def operation(fun, *args):
    (op,) = trace(fun, *args).operations
    return op


def test_elementwise_with_scalars():
    op = operation(lambda x, y: lax.clamp(y, x, y), jnp.ones((4, 2)), 1.0)
    found = elementwise.forward(op, (None, 0, None), 4)
    assert found is not None
    assert (found.operands, found.results) == ((None, 0, None), (Split(0),))


def test_what_changes_shape_is_not_elementwise():
    op = operation(lambda x: lax.bitcast_convert_type(x, jnp.uint8), jnp.ones(4))
    assert elementwise.links(op) is None


def test_axes_that_are_swept_or_folded_are_needed_whole():
    op = operation(lambda x: lax.cumsum(x, 1), jnp.ones((4, 2)))
    swept = blocked(lambda op: (op.params["axis"],))
    assert swept.forward(op, (1,), 2) is None
    assert swept.forward(op, (0,), 2) is not None
    op = operation(lambda x: lax.reduce_max(x, (0,)), jnp.ones((4, 2)))
    assert folded(lambda op: op.params["axes"]).forward(op, (0,), 2) is None
