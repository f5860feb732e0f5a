import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.axes.cut import Chunk, Partial, Split
from ckptgrad.axes.programs import followed
from ckptgrad.graph.trace import trace


def test_a_program_is_run_for_a_chunk():
    graph = trace(lambda x, y: (x * y, jnp.sum(x)), jnp.ones((4, 2)), jnp.ones((4, 2)))
    found = followed(graph, (0, None), 4)
    assert found is not None
    assert found.operands == (0, 0)
    assert found.results == (Split(0), Partial())
    x, y = np.arange(4.0).reshape(2, 2), np.ones((2, 2))
    product, total = found.run((x, y), Chunk(4, 2))
    np.testing.assert_array_equal(product, x)
    assert total == 6


def test_what_needs_more_than_a_part_is_refused():
    x = jnp.ones((4, 2))
    assert followed(trace(lambda x: x.mean(), x), (0,), 4) is None
    assert followed(trace(lambda x: x * jnp.arange(4)[:, None], x), (0,), 4) is None
    assert followed(trace(lambda x, y: x * y + y.sum(), x, x), (0, None), 4) is None


def with_backward(backward):
    @jax.custom_vjp
    def identity(w):
        return w * 1.0

    identity.defvjp(lambda w: (w * 1.0, None), lambda _, g: (backward(g),))
    return identity


@pytest.mark.parametrize(("backward", "is_followed"), [(lambda g: 2 * g, True), (lambda g: jnp.clip(g, -1, 1), False)])
def test_what_flows_back_to_values_that_all_chunks_read_must_be_a_sum(backward, is_followed):
    rule = with_backward(backward)
    graph = trace(lambda x, w: jnp.tanh(x @ rule(w)), jnp.ones((4, 2)), jnp.ones((2, 2)))
    assert (followed(graph, (0, None), 4) is not None) == is_followed
    # A rule for each example's own value is the same for a part.
    own = trace(lambda x, w: jnp.tanh(rule(x) @ w), jnp.ones((4, 2)), jnp.ones((2, 2)))
    assert followed(own, (0, None), 4) is not None
