"""Bytes of values: of keys those of their numbers, of small numbers packed ones; what is a variable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.graph.atoms import Constant, aval_bytes, variables_of


@pytest.mark.parametrize(("impl", "each"), [("threefry2x32", 8), ("rbg", 16)])
def test_bytes_of_keys_are_those_of_their_numbers(impl, each):
    keys = jax.random.split(jax.random.key(0, impl=impl), 3)
    assert aval_bytes(jax.typeof(keys)) == 3 * each == jax.random.key_data(keys).nbytes


def test_four_bit_integers_are_packed():
    few = jax.ShapeDtypeStruct((5,), jnp.int4)
    compiled_alone = jax.jit(lambda x: x).lower(few).compile()
    assert aval_bytes(few) == compiled_alone.memory_analysis().output_size_in_bytes


def test_what_is_no_array_has_no_bytes():
    assert aval_bytes(jax.typeof(jax.lax.create_token())) == 0


def test_literals_are_no_variables():
    graph = cg.trace(lambda x: x * 2.0 + x, 1.0)
    (x,), (product, total) = graph.inputs, graph.operations
    assert isinstance(product.inputs[1], Constant)
    assert variables_of([*product.inputs, *total.inputs]) == [x, product.outputs[0], x]
