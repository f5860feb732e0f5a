"""The byte by which a program is known to have finished."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ckptgrad as cg
from ckptgrad.execution.staged import tokens
from ckptgrad.execution.staged.programs import Order
from ckptgrad.execution.staged.tokens import AT_ONCE, interruptible, token
from tests.cases.tanh import tanh_arguments, tanh_loss
from tests.support.compare import assert_same

STAGED = {"runtime": "staged", "costs": "estimate"}


@pytest.mark.parametrize("at_once", [False, True])
def test_it_is_a_byte(at_once):
    byte, result = jax.jit(lambda x: [token(at_once), x + 1])(jnp.ones(4))
    assert (byte.dtype, byte.shape, int(byte)) == (np.uint8, (), 0)
    np.testing.assert_array_equal(result, 2.0)


def calls_back(gradient):
    """For each distinct program whether it calls back into Python."""
    lowered = gradient.executable._lowered
    return {order: "callback" in program.text for order, program in lowered.programs.items() if isinstance(order, Order)}


def moved(order):
    types = [*order.work.operands(), *(atom.aval for atom in order.work.results())]
    return sum(x.size * x.dtype.itemsize for x in types)


@pytest.mark.parametrize(("width", "batch", "expected"), [(16, 64, {False}), (256, 4096, {False, True})])
def test_programs_that_read_and_make_much_run_where_they_are_called(width, batch, expected):
    ws, x = tanh_arguments(width, batch, layers=3)
    gradient = cg.value_and_grad(tanh_loss, **STAGED).compile(ws, x)
    found = calls_back(gradient)
    assert {*found.values()} == expected
    assert all(at_once == (moved(order) >= AT_ONCE) for order, at_once in found.items())
    assert_same(gradient(ws, x), jax.value_and_grad(tanh_loss)(ws, x), scale=10)


def test_a_program_of_small_results_runs_where_it_is_called_too():
    """The last backward makes the gradient of a table only, of rows that are much larger."""

    def loss(table, rows):
        return jnp.sum(jnp.tanh(table[rows]) ** 2)

    table, rows = jnp.ones((64, 128)), jnp.zeros(8192, jnp.int32)
    gradient = cg.value_and_grad(loss, policy="store_all", **STAGED).compile(table, rows)
    found = calls_back(gradient)
    small = [o for o in found if sum(a.aval.size * a.aval.dtype.itemsize for a in o.work.results()) < AT_ONCE <= moved(o)]
    assert small
    assert all(found[order] for order in small)


def test_they_run_where_transfers_are_not_allowed():
    ws, x = tanh_arguments(256, 4096, layers=3)
    gradient = cg.value_and_grad(tanh_loss, **STAGED).compile(ws, x)
    with jax.transfer_guard("disallow"):
        gradient(ws, x)


def test_an_interrupt_inside_a_callback_ends_as_one(monkeypatch):
    """JAX says that the program has failed."""

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(tokens, "_done", interrupted)
    ws, x = tanh_arguments(256, 4100, layers=3)
    gradient = cg.value_and_grad(tanh_loss, **STAGED).compile(ws, x)
    with pytest.raises(KeyboardInterrupt):
        gradient(ws, x)


def test_other_failures_stay_what_they_are():
    with pytest.raises(jax.errors.JaxRuntimeError, match="full"), interruptible():
        raise jax.errors.JaxRuntimeError("the disk is full")
