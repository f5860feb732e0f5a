"""Which calls may be computed in parts, and what is summed."""

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.doors.gradient import GradientFunction
from ckptgrad.doors.microbatches import counts_of, parts_of
from ckptgrad.request import Request

W, X, Y = jnp.ones((3, 4)), jnp.ones((12, 3)), jnp.ones((12, 4))


def chain(function, argnums=0, **options):
    return GradientFunction(function, Request(argnums, **options), with_value=True).trace(W, X, Y)


def loss(w, x, y):
    return jnp.mean((jnp.tanh(x @ w) - y) ** 2)


def test_parts_are_told_by_the_argument_that_is_cut():
    parts = parts_of(chain(loss), 4)
    assert parts.entries == 3
    described = parts.described()
    assert str(described) == "4 of 3 along axis 0 of y"
    assert described.carried_bytes == W.nbytes + 4
    assert counts_of(chain(loss)) == [2, 4]


def test_sums_of_16_bits_are_carried_in_32():
    half = chain(lambda w, x, y: loss(w.astype(jnp.bfloat16), x, y))
    assert parts_of(half, 2).described().carried_bytes == W.nbytes + 4


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (loss, {}, "microbatches=5 does not divide the 12 entries"),
        (lambda w, x, y: jnp.sqrt(loss(w, x, y)), {}, "not proved to be a sum"),
        (lambda w, x, y: (loss(w, x, y), x), {"has_aux": True}, "leave out aux"),
        (
            loss,
            {"argnums": (0, 1, 2)},
            r"a sum over the entries of axis 0 of x, which is differentiated itself.*\(argnums\)",
        ),
    ],
)
def test_what_cannot_be_computed_in_parts_is_refused(function, options, message):
    with pytest.raises(cg.OptionError, match=message):
        parts_of(chain(function, **options), 5)
