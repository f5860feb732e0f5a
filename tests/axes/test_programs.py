import jax.numpy as jnp
import numpy as np

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
