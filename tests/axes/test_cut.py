import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ckptgrad.axes.cut import Chunk, Split, may_be_cut
from ckptgrad.graph.graph import Variable
from ckptgrad.graph.trace import trace


def test_a_chunk_has_several_places_per_entry():
    assert Chunk(4, 3).places(4) == 3
    assert Chunk(4, 3).shape((2, 12), Split(1)) == (2, 9)
    assert Chunk(4, 3).shape((2, 12), None) == (2, 12)


def test_axes_that_divide_may_be_cut():
    (x,) = trace(jnp.sin, jnp.ones((4, 6, 0))).inputs
    assert [may_be_cut(x, axis, 2) for axis in range(4)] == [True, True, False, False]
    assert not may_be_cut(x, 1, 4)


def test_what_devices_share_is_not_cut_again():
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("a", "b"))
    aval = jax.core.ShapedArray((4, 6), jnp.float32)
    v = Variable(aval, NamedSharding(mesh, PartitionSpec("a")))
    assert may_be_cut(v, 0, 2)  # one device
    wide = jax.sharding.AbstractMesh((2,), ("a",))
    v = Variable(aval, NamedSharding(wide, PartitionSpec("a")))
    assert [may_be_cut(v, axis, 2) for axis in (0, 1)] == [False, True]
