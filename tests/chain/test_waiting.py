"""What the backward holds at a boundary besides it: values that cross several stages, and sums of gradients in progress."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import ckptgrad as cg
from ckptgrad.chain.waiting import waiting_bytes
from tests.support.waiting import waiting

X, W = jnp.ones((64, 8)), jnp.eye(8)
DEPTH = 12


def plain(ws, x):
    for w in ws:
        x = jnp.tanh(x @ w)
    return x.sum()


def tied(ws, x):
    for _ in ws:
        x = jnp.tanh(x @ ws[0])
    return x.sum()


def skipping(ws, x):
    first = jnp.sin(x @ ws[0])
    for w in ws[1:]:
        x = jnp.tanh(x @ w) * first
    return x.sum()


def program_of(loss):
    return cg.plan(loss, [W] * DEPTH, X).program


@pytest.mark.parametrize("loss", [plain, tied, skipping])
def test_bytes_are_those_of_what_is_listed(loss):
    program = program_of(loss)
    listed = [sum(v.nbytes for v, _ in waiting(program, k)) for k in range(len(program.stages) + 1)]
    assert waiting_bytes(program) == listed


def test_nothing_waits_in_a_plain_chain():
    assert not any(waiting_bytes(program_of(plain)))


def test_the_sum_for_tied_weights_waits_from_the_last_reader_to_the_first():
    program = program_of(tied)
    kinds = [[(v.shape, kind) for v, kind in waiting(program, k)] for k in range(len(program.stages) + 1)]
    assert kinds[0] == kinds[-1] == []
    assert all(held == [(W.shape, "gradients")] for held in kinds[1:-1])


def test_a_value_that_crosses_stages_is_held_with_the_sum_of_its_gradients():
    program = program_of(skipping)
    held = [kind for k in range(len(program.stages) + 1) for v, kind in waiting(program, k) if v.shape == X.shape]
    assert {"boundaries", "gradients"} == {*held}
