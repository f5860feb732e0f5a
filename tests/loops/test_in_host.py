"""What may be stored in the host's memory, and the values that go there and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.graph.atoms import aval_bytes, device_bytes, is_in_host
from ckptgrad.graph.graph import Variable
from ckptgrad.loops.in_host import away, back, leaving_bytes, may_leave, stack_in_host, transfer_seconds
from ckptgrad.target.attached import attached
from ckptgrad.target.roofline import Roofline

LEAVE = [jnp.float32, jnp.bfloat16, jnp.int8, jnp.uint32]
STAY = [jnp.bool_, jnp.int4, jnp.complex64]


def array(dtype, shape=(3, 2)):
    return jax.core.ShapedArray(shape, jnp.dtype(dtype))


@pytest.mark.parametrize("dtype", LEAVE)
def test_numbers_of_whole_bytes_may_leave(dtype):
    assert may_leave(array(dtype))
    assert not may_leave(array(dtype, ()))


@pytest.mark.parametrize("dtype", STAY)
def test_other_values_stay(dtype):
    v = Variable(array(dtype))
    assert not may_leave(v.aval)
    assert not is_in_host(stack_in_host(v, 4).aval)
    assert leaving_bytes([v], attached()) == 0


def test_keys_stay():
    assert not may_leave(jax.typeof(jax.random.split(jax.random.key(0), 3)))


def test_a_stack_in_the_host_takes_nothing_of_the_device():
    v = Variable(array(jnp.float32))
    stack = stack_in_host(v, 5)
    assert (stack.shape, stack.nbytes, aval_bytes(stack.aval), device_bytes(stack)) == ((5, 3, 2), 120, 120, 0)
    assert leaving_bytes([v], attached()) == device_bytes(v) == 24


def test_there_and_back():
    values = [jnp.arange(6.0), jnp.asarray(True), jnp.arange(4, dtype=jnp.int8)]

    @jax.jit
    def run(*values):
        sent = away(values)
        assert [is_in_host(jax.typeof(x)) for x in sent] == [True, False, True]
        return back(sent)

    for ours, x in zip(run(*values), values, strict=True):
        assert ours.dtype == x.dtype
        np.testing.assert_array_equal(ours, x)


def test_seconds_are_those_of_the_transfers_alone():
    roofline = Roofline(attached())
    once = transfer_seconds(roofline, 1000, 1)
    assert once > 1000 / roofline.rates.read_rate
    assert transfer_seconds(roofline, 1000, 7) == pytest.approx(7 * once)
