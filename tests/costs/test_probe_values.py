"""Values that a probe makes and reads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.costs.probe_values import SCOPE, consume, fillings, is_plain, produce
from ckptgrad.target.platform import Isolation

NUMBERS, KEYS = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16), jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
WAYS = pytest.mark.parametrize("isolation", [Isolation.CALLS, Isolation.BARRIERS])


def program_of(isolation):
    """A program that makes numbers and keys, and reads them."""

    def run(numbers):
        made = produce([NUMBERS, KEYS], numbers, isolation)
        return [jax.typeof(x).str_short() for x in made], consume(made, [None, None], isolation)

    kinds = []
    jaxpr = jax.make_jaxpr(lambda numbers: kinds.append(run(numbers)) or kinds[-1][1])(
        [jnp.zeros(s.shape, s.dtype) for s in fillings([NUMBERS, KEYS], isolation)]
    )
    return kinds[0][0], jaxpr


@WAYS
def test_values_have_the_types_that_were_asked_for(isolation):
    types, _ = program_of(isolation)
    assert types == ["bfloat16[2,3]", "key<fry>[4]"]


def test_callbacks_are_given_nothing_and_never_run():
    _, jaxpr = program_of(Isolation.CALLS)
    assert fillings([NUMBERS, KEYS], Isolation.CALLS) == []
    assert [eqn.primitive.name for eqn in jaxpr.eqns].count("pure_callback") == 2
    with pytest.raises(Exception, match="never run"):
        jax.block_until_ready(jax.jit(lambda: consume(produce([NUMBERS], [], Isolation.CALLS), [None], Isolation.CALLS))())


def test_behind_barriers_values_are_filled_with_numbers_that_are_given():
    """One number for each value, of the type of its elements; keys are filled as the integers that they are made of."""
    assert [s.dtype for s in fillings([NUMBERS, KEYS], Isolation.BARRIERS)] == [jnp.bfloat16, jnp.uint32]
    made = produce([NUMBERS, KEYS], [jnp.bfloat16(7), jnp.uint32(5)], Isolation.BARRIERS)
    np.testing.assert_array_equal(np.asarray(made[0], np.float32), np.full((2, 3), 7))
    assert {*np.asarray(jax.random.key_data(made[1])).ravel()} == {5}
    _, jaxpr = program_of(Isolation.BARRIERS)
    assert [eqn.primitive.name for eqn in jaxpr.eqns].count("optimization_barrier") == 2
    assert all(SCOPE in str(eqn.source_info.name_stack) for eqn in jaxpr.eqns if "barrier" in eqn.primitive.name)


@WAYS
def test_nothing_is_made_or_read_of_nothing(isolation):
    assert produce([], [], isolation) == []
    assert consume([], [], isolation) == ()
    assert consume([jnp.zeros((0, 3))], [None], isolation) == ()


@pytest.mark.parametrize(
    ("struct", "plain"),
    [(NUMBERS, True), (KEYS, True), (jax.ShapeDtypeStruct((0,), jnp.float32), False),
     (jax.ShapeDtypeStruct((2,), jax.dtypes.float0), False)],
)  # fmt: skip
def test_what_can_be_made(struct, plain):
    assert is_plain(struct) == plain
