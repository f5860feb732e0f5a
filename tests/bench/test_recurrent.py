"""A recurrent cell, its loop written in several ways that compute the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ckptgrad.bench import recurrent
from tests.support.compare import quick

ARGS = recurrent.arguments(4, 3)


def by_hand(length):
    w, b, h = map(np.asarray, ARGS)
    for _ in range(length):
        h = np.tanh(h @ w + b)
    return (h**2).mean()


def test_sizes():
    assert [a.shape for a in ARGS] == [(4, 4), (4,), (3, 4)]
    assert recurrent.state_bytes(4, 3) == ARGS[2].nbytes
    assert recurrent.output_bytes(ARGS) == sum(a.nbytes for a in ARGS) + 4


@pytest.mark.parametrize(
    "loss",
    [recurrent.scan_loss(6), recurrent.nested_scan_loss(6, 2), lambda *a: recurrent.while_loop_loss(*a, jnp.int32(6))],
    ids=["scan", "nested", "while"],
)
def test_losses_after_a_number_of_steps(loss):
    np.testing.assert_allclose(quick(loss)(*ARGS), by_hand(6), rtol=1e-5)


def test_loops_of_equinox():
    loops = pytest.importorskip("equinox.internal")
    n = jnp.int32(6)

    @quick
    def run(*args):
        return recurrent.equinox_scan(loops, 6, 2)(*args), recurrent.equinox_while(loops, 2)(*args, n)

    for found in run(*ARGS):
        np.testing.assert_allclose(found, by_hand(6), rtol=1e-5)


@pytest.mark.slow
def test_steps_of_diffrax():
    diffrax = pytest.importorskip("diffrax")
    np.testing.assert_allclose(recurrent.diffrax_steps(diffrax, 3)(*ARGS, jnp.int32(6)), by_hand(6), rtol=1e-5)


def test_gradients_are_those_of_all_arguments():
    _, gradients = jax.eval_shape(recurrent.gradient(recurrent.scan_loss(3)), *ARGS)
    assert [(g.shape, g.dtype) for g in gradients] == [(a.shape, a.dtype) for a in ARGS]
