"""Which calls may be computed in parts, and what is summed."""

import jax
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


@jax.custom_vjp
def clipped(w):
    """Its gradient is clipped: of parts that is not what it is of their sum."""
    return w


clipped.defvjp(lambda w: (w, None), lambda _, g: (g / (1 + jnp.linalg.norm(g)),))


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x, y: loss(clipped(w), x, y),
        lambda w, x, y: loss(w, x, y) + clipped(jnp.sum(w**2)),
        lambda w, x, y: loss(jax.lax.scan(lambda w, _: (clipped(w), None), w, None, length=2)[0], x, y),
    ],
    ids=["parameters", "a penalty", "inside a loop"],
)
def test_a_rule_that_is_not_linear_is_not_applied_to_parts(function):
    with pytest.raises(cg.OptionError, match=r"custom rule \(.*test_microbatches.py:\d+.*not known to be linear"):
        parts_of(chain(function), 4)
    assert not counts_of(chain(function))


def test_a_rule_that_is_not_linear_may_stand_beside_what_is_differentiated():
    assert counts_of(chain(lambda w, x, y: loss(w, clipped(x), y))) == [2, 4]
